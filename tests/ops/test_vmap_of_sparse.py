"""A `vmap` axis over the samples of sparse operators is more samples, in whichever layout a weight lies."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.ops import rows_linear, sparse_linear
from optprune_fast.testing.samples import samples

MODULES = {"rows_linear": rows_linear, "sparse_linear": sparse_linear}


@pytest.mark.parametrize("name", MODULES)
def test_it_gives_what_one_call_each_gives_in_one_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, calls = MODULES[name], []
    operator, operation = getattr(module, name), module.operation
    cases = [case for case in samples(name, torch.float64) if case.arguments[0].dim() == 2]
    assert cases
    for case in cases:
        x, *rest = case.arguments
        many = torch.stack([x, 2 * x, -x])
        wanted = torch.stack([operator(one, *rest, backend="torch") for one in many])
        with monkeypatch.context() as patch:
            patch.setattr(module, "operation", lambda *a, **k: calls.append(1) or operation(*a, **k))
            found = torch.vmap(lambda one, rest=rest: operator(one, *rest, backend="torch"))(many)
        torch.testing.assert_close(found, wanted, equal_nan=True)
    assert len(calls) == len(cases)  # without a batching rule torch calls once a sample of the axis
