"""Bit for bit the same on any number of threads and, for the compiled backend, on any instruction set."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.engine.evaluator import Evaluator


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def results(case, backend: str) -> list[torch.Tensor]:
    evaluator = Evaluator(case.model, case.data, backend=backend)
    masks = case.masks(3)
    return [evaluator(masks), evaluator.outputs(masks), *evaluator.metrics(masks).values()]


@pytest.mark.parametrize("name", ["mlp", "lenet5"])
@pytest.mark.parametrize("kind", ["native", "numba"])
def test_one_and_two_threads_give_the_same_bits(network, kinds, name: str, kind: str, threads):
    if kind not in {backend for backend, _ in kinds}:
        pytest.skip(f"no {kind} backend on this machine")
    case = network(name)
    threads(1)
    one = results(case, kind)
    threads(2)
    assert all(torch.equal(a, b) for a, b in zip(one, results(case, kind), strict=True))


@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_every_instruction_set_gives_the_same_bits(network, kinds, name: str, monkeypatch):
    isas = [isa for backend, isa in kinds if backend == "native"]
    if not isas:
        pytest.skip("no compiled module on this machine")
    case = network(name)
    seen = []
    for isa in isas:
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        seen.append(results(case, "native"))
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


def test_gradients_repeat_bit_for_bit_on_any_number_of_threads(network, threads):
    case = network("lenet5")
    evaluator, mask = Evaluator(case.model, case.data, backend="torch"), case.masks(1)
    threads(1)
    one = evaluator.gradients(mask)
    threads(2)
    for name, pair in evaluator.gradients(mask).items():
        assert all(torch.equal(a, b) for a, b in zip(pair, one[name], strict=True))
