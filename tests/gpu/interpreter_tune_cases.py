"""A launch that is chosen by time, in Triton's interpreter; test_triton_interpreter.py runs these as well."""

from __future__ import annotations

import json

import pytest
import torch

from optprune_fast.ops import triton_tune
from optprune_fast.ops.masked_conv2d import masked_conv2d
from optprune_fast.ops.masked_linear import masked_linear
from optprune_fast.ops.words import pack
from optprune_fast.runtime import autotune


@pytest.fixture
def times(monkeypatch, tmp_path):
    """Each launch takes less time than the one before; what was timed."""
    timed = []

    def timer(run):
        run()
        timed.append(run)
        return 1.0 / len(timed)

    monkeypatch.setenv("OPTPRUNE_AUTOTUNE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(triton_tune, "timed_on", lambda device: "a card 8.0")
    monkeypatch.setattr(triton_tune, "timer", timer)
    return timed


@pytest.mark.parametrize(("call", "launches"), [
    (lambda backend: masked_linear(torch.ones(5, 70), torch.ones(9, 70), pack(torch.ones(2, 9, 70, dtype=torch.bool)),
                                   backend=backend), 2),
    (lambda backend: masked_conv2d(torch.ones(2, 3, 5, 5), torch.ones(4, 3, 3, 3),
                                   pack(torch.ones(2, 4, 27, dtype=torch.bool)), backend=backend), 2),
    (lambda backend: masked_linear(torch.ones(5, 70), torch.ones(9, 70), pack(torch.ones(2, 9, 70, dtype=torch.bool)),
                                   backend=backend, **({"precision": "tf32"} if backend == "triton" else {})), 3),
], ids=["linear", "conv2d", "large"])
def test_each_shipped_launch_is_timed_once_and_the_fastest_serves(times, call, launches):
    wanted = call("torch")
    for _ in range(3):
        assert torch.equal(call("triton"), wanted)
        assert len(times) == launches
    [(key, choice)] = json.loads(autotune.path().read_text())["choices"].items()
    assert key.endswith(f" or {choice}")  # the last was the fastest


def test_without_the_variable_nothing_is_timed_or_read(times, monkeypatch, tmp_path):
    monkeypatch.delenv("OPTPRUNE_AUTOTUNE")
    monkeypatch.setattr(autotune, "known", lambda key: pytest.fail("read"))
    words = pack(torch.ones(2, 9, 70, dtype=torch.bool))
    assert masked_linear(torch.ones(5, 70), torch.ones(9, 70), words, backend="triton").shape == (2, 5, 9)
    assert times == list(tmp_path.iterdir()) == []
