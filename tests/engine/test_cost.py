"""What `explain()` predicts: what a step does, counted, times what each of these takes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from optprune_fast.engine import cost_probe
from optprune_fast.engine.cost import Coefficients, Counts, counts_of
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.population import Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import random_masks
from optprune_fast.models import MLP, ResNet20, TinyTransformer
from optprune_fast.plan import capture
from optprune_fast.plan.model import state_of
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")


def engine_of(model: nn.Module, *shape: int) -> Population:
    layout = MaskLayout.of(model.eval())
    return Population(capture(model, (torch.randn(3, *shape),), {}, layout), layout, state_of(model), 64)


def counts_at(engine: Population, *kept: float) -> list[Counts]:
    return counts_of(engine.program, kept, engine.lanes)


@pytest.mark.parametrize(("kept", "what", "weights"), [(0.01, "linear list", 28.0), (0.5, "linear words", 1400.0),
                                                       (0.9, "linear dense", 2800.0)])
def test_a_linear_layer_counts_what_it_multiplies(kept: float, what: str, weights: float) -> None:
    counts = counts_at(engine_of(MLP([140, 20, 5]), 140), kept, 1.0)[0]
    assert counts[what] == pytest.approx(weights)
    assert counts.get("sums", 0.0) == (20 * 2 if what == "linear words" else 0)  # three panels, two ways between them


def test_rows_that_nobody_reads_cost_nothing() -> None:
    engine = engine_of(MLP([140, 20, 5]), 140)
    assert counts_at(engine, 0.5, 0.0)[0]["linear words"] == 0
    assert counts_at(engine, 0.5, 0.1)[0]["linear words"] == pytest.approx(1400 * (1 - 0.9**5))


def test_a_convolution_counts_its_outputs_and_an_activation_its_elements_and_bytes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.MaxPool2d(2))
    layer, gelu, pool = counts_at(engine_of(model, 3, 6, 8), 0.25)[:3]
    assert layer["conv2d skip"] == 0.25 * 108 * 48
    assert gelu["gelu"] == pool["max_pool"] == 4 * 48
    assert sum(gelu.values()) == 4 * 48 + 2 * 4 * 4 * 48  # bytes: read and written


def test_bytes_come_from_the_nearest_cache_that_holds_them() -> None:
    for side, level in ((4, "first level"), (16, "second level"), (100, "beyond")):
        counts = counts_at(engine_of(nn.Sequential(nn.Conv2d(1, 8, 1), nn.GELU(), nn.MaxPool2d(2)), 1, side, side), 1.0)
        assert counts[1].keys() == {"gelu", level}


@pytest.fixture(scope="module")
def measured() -> Coefficients:
    return cost_probe.measure()


@pytest.mark.parametrize(("make", "shape"), [
    (lambda: MLP([70, 33, 5]), (70,)), (lambda: ResNet20(3, 4, width=2), (3, 9, 8)),
    (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
], ids=["mlp", "resnet20", "transformer"])
def test_the_probe_measures_all_that_is_counted(make, shape: tuple[int, ...], measured: Coefficients) -> None:
    engine = engine_of(make(), *shape)
    for share in (0.01, 0.5, 1.0):
        for counts in counts_at(engine, *[share] * len(engine.program.layers)):
            assert counts.keys() <= measured.nanoseconds.keys()
    assert all(value >= 0 for value in measured.nanoseconds.values())
    assert measured({"linear dense": 1e6}) > 0


def rows_of(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in text.splitlines() if line}


def test_explain_predicts_before_a_run_and_shows_both_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Coefficients({"linear list": 1e6, "linear words": 100.0, "linear dense": 10.0})
    monkeypatch.setattr(cost_probe, "probe", lambda isa: rates)
    ev = Evaluator(nn.Linear(100, 8), (torch.randn(50, 100), None), "mse_to_dense", backend="native")
    assert rows_of(ev.explain())["weight"][-3:] == ["1.000", "dense", "0.400"]
    assert rows_of(ev.explain(density=0.5))["weight"][-3:] == ["0.500", "words", "2.000"]
    ev(random_masks(ev.layout, 200, [1, 2]))
    text = ev.explain()
    assert "times    of a mask, 50 samples, one thread" in text
    *_, density, way, predicted, spent = rows_of(text)["weight"]
    assert (density, way, predicted) == ("0.250", "words", "1.000")
    assert float(spent) >= 0
    assert rows_of(text)["together"][1] == "1.000"
    assert rows_of(ev.explain(density=0.5))["weight"][-3:] == ["0.500", "words", "2.000"]


@pytest.mark.parametrize("density", [-0.1, 1.5])
def test_a_density_outside_is_an_error(density: float) -> None:
    ev = Evaluator(nn.Linear(3, 2), (torch.randn(4, 3), None), "mse_to_dense", backend="native")
    with pytest.raises(ValueError, match=rf"density must lie in \[0, 1\]\n  density  {density}"):
        ev.explain(density=density)


def test_nothing_is_measured_before_somebody_asks() -> None:
    code = ("import torch, optprune_fast as opf; from optprune_fast.engine.cost_probe import probe\n"
            "ev = opf.Evaluator(torch.nn.Linear(3, 2), (torch.randn(4, 3), None), 'mse_to_dense', backend='native')\n"
            "ev(opf.PackedMasks.full(ev.layout)); before = probe.cache_info().currsize\n"
            "ev.explain(); ev.explain(); print(before, probe.cache_info().misses)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert out.stdout.split() == ["0", "1"]
