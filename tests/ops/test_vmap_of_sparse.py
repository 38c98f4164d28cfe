"""A `vmap` axis over the samples of sparse operators is more samples, in whichever layout a weight lies."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.ops.rows_linear import rows_linear
from optprune_fast.ops.sparse_linear import sparse_linear
from optprune_fast.testing.samples import samples

OPERATORS = {"rows_linear": rows_linear, "sparse_linear": sparse_linear}


@pytest.mark.filterwarnings("error::UserWarning")  # torch's, where there is no batching rule
@pytest.mark.parametrize("name", OPERATORS)
def test_it_gives_what_one_call_each_gives(name: str) -> None:
    cases = [case for case in samples(name, torch.float64) if case.arguments[0].dim() == 2]
    assert cases
    for case in cases:
        x, *rest = case.arguments
        many = torch.stack([x, 2 * x, -x])
        found = torch.vmap(lambda one, rest=rest: OPERATORS[name](one, *rest, backend="torch"))(many)
        wanted = torch.stack([OPERATORS[name](one, *rest, backend="torch") for one in many])
        torch.testing.assert_close(found, wanted, equal_nan=True)
