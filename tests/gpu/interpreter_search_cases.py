"""Searches that multiply in 16 bits, in Triton's interpreter; test_triton_interpreter.py runs these as well."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.models import MLP
from optprune_fast.recipe.prune import prune
from optprune_fast.recipe.result import Result
from optprune_fast.recipe.sweep import sweep

SEARCH = {"strategy": "swap", "evaluations": 40, "backend": "triton", "logit_scale": 1.0, "progress": False}


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    model, inputs = MLP([20, 6, 3]), torch.randn(60, 20)
    return model, (inputs[:40], model(inputs[:40]).argmax(1)), (inputs[40:], model(inputs[40:]).argmax(1))


def fitness(task, part, mask, **precision):
    model, *parts = task
    return float(Evaluator(model, parts[part], backend="triton", **precision)(mask))


def test_a_search_in_fp16_asks_in_fp16_and_is_judged_in_fp32(task, tmp_path):
    model, data, validation = task
    result = prune(model, data, 0.7, validation=validation, precision="fp16", **SEARCH)
    exact, half = (fitness(task, 0, result.magnitude, precision=name) for name in ("fp32", "fp16"))
    assert exact != half
    assert result.history[0]["fitness"] == half
    assert (result.fitness, result.baseline) == tuple(fitness(task, 1, m) for m in (result.mask, result.magnitude))
    assert result.calibration_fitness == fitness(task, 0, result.mask)
    assert Result.load(result.save(tmp_path)).precision == result.precision == "fp16"


def test_what_is_judged_in_fp32_keeps_backend_and_samples(task):
    model, data, _ = task
    evaluator = Evaluator(model, data, backend="triton", precision="fp16").subset(torch.arange(9))
    exact = evaluator.in_fp32()
    assert (exact.precision, exact.backend, exact.samples) == ("fp32", "triton", 9)
    assert exact.in_fp32() is exact
    assert evaluator.precision == "fp16"
    assert "multiply fp32 in masked layers" in exact.explain()


def test_the_journal_of_another_precision_is_refused(task, tmp_path):
    model, data, validation = task
    search = {**SEARCH, "validation": validation, "journal": tmp_path / "journal"}
    prune(model, data, 0.7, **search)
    with pytest.raises(ValueError, match=r"journal of another run: precision differ[\s\S]*this_run  'fp16'"):
        prune(model, data, 0.7, precision="fp16", **search)


def test_every_search_of_a_sweep_has_the_precision(task):
    model, data, validation = task
    found = sweep(model, data, (0.5, 0.7), validation=validation, precision="fp16", **SEARCH)
    assert [result.precision for result in found.results] == ["fp16", "fp16"]
