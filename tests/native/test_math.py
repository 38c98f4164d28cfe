"""Our own exponential and its kin: close to torch's functions in float64 everywhere, for huge and tiny numbers too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import optprune_fast as opf
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing() is not None, reason=f"needs the compiled module: {native.missing()}")

KINDS = [nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Sigmoid(), nn.Tanh(), nn.ELU(), nn.Hardswish(),
         nn.LeakyReLU(0.1), nn.ReLU6()]


def grid() -> Tensor:
    sizes = torch.cat([torch.logspace(-30, 37, 135), torch.linspace(0.001, 12, 400)])
    return torch.cat([sizes, -sizes, torch.zeros(1)])


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{type(kind).__name__}{getattr(kind, 'approximate', '')}")
def test_activations_are_close_everywhere(kind: nn.Module, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTPRUNE_ISA", isa)
    model = nn.Sequential(nn.Linear(1, 1, bias=False), kind)
    nn.init.ones_(model[0].weight)
    x = grid().reshape(-1, 1)
    ev = opf.Evaluator(model, (x, torch.zeros(len(x), dtype=torch.int64)), "mse_to_dense", backend="native")
    assert ev._compiled.ready
    ours = ev.outputs(opf.PackedMasks.full(ev.layout))[0].double()
    exact, theirs = kind(x.double()), kind(x).double()
    # Some ulp of the value; and where torch's own formula in float64 cancels to nothing, what it cancels.
    allowed = 8 * 2.0 ** -23 * exact.abs() + 2 * (theirs - exact).abs() + 1e-15 * x.double().abs().clamp(max=10) + 1e-35
    worst = ((ours - exact).abs() / allowed).max()
    assert float(worst) <= 1, float(x[((ours - exact).abs() / allowed).argmax()])


@pytest.mark.parametrize("isa", native.isas())
def test_cross_entropy_is_close_for_logits_of_any_size(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exponentials are not those of the activations: differences from the largest logit, down to nothing."""
    monkeypatch.setenv("OPTPRUNE_ISA", isa)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 7, bias=False))
    nn.init.eye_(model[0].weight)
    for size in (1e-3, 1.0, 20.0, 90.0, 1e4):
        x, targets = size * torch.randn(65, 7), torch.randint(7, (65,))
        ev = opf.Evaluator(model, (x, targets), backend="native")
        exact = nn.functional.cross_entropy(x.double(), targets)
        ours = float(ev(opf.PackedMasks.full(ev.layout))[0])
        assert abs(ours - float(exact)) <= 4 * 2.0 ** -24 * max(1.0, float(x.abs().max())), size
