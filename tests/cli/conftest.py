"""A small problem on disk: a network as a factory module, its weights, and its data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from optprune_fast.cli.app import app
from optprune_fast.models import MLP

FACTORY = """
from torch import nn
from optprune_fast.models import MLP

def network():
    return MLP([12, 16, 3])

def wider():
    return MLP([13, 16, 3])

def narrow():
    return MLP([12, 16, 2])

def number():
    return 3

NAME = "not callable"
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run() -> Callable[..., Ran]:
    """Run a command; whatever it raises beyond its exit code fails the test."""
    def call(*arguments: object) -> Ran:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: my_models.py, weights.safetensors, data.npz (train and test), train.npz (train alone)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(FACTORY)
    random = torch.Generator().manual_seed(0)
    net = MLP([12, 16, 3])
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random) * 0.5
    save_file(net.state_dict(), "weights.safetensors")
    torch.save(net.state_dict(), "weights.pt")
    x = torch.randn(230, 12, generator=random)
    y = net(x).argmax(1)
    x, y = x.numpy(), y.numpy()
    numpy.savez("data.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    numpy.savez("train.npz", x=x[:200], y=y[:200])
    yield tmp_path
    sys.modules.pop("my_models", None)


PRUNE = ("prune", "my_models:network", "--checkpoint", "weights.safetensors", "--sparsity", "0.8",
         "--evaluations", "200", "--out", "out")


@pytest.fixture
def pruned(here: Path, run: Callable[..., Ran]) -> Ran:
    """A result in `out`."""
    ran = run(*PRUNE, "--data", "data.npz", "--json")
    assert ran.code == 0, ran.err
    return ran
