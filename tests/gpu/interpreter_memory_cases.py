"""How much memory the engine on a GPU takes, and too little of it; test_triton_interpreter.py runs these as well."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.engine.device_bytes import DeviceBytes
from optprune_fast.engine.device_population import DevicePopulation
from optprune_fast.masks.packed import PackedMasks
from tests.gpu.engine_networks import SAMPLES


def test_less_memory_than_thought_means_smaller_chunks(cases, monkeypatch):
    case = cases["mlp"]
    evaluator = case.evaluator()
    wanted = evaluator(case.masks)
    plain, seen = DevicePopulation._chunk_sums, []

    def short(self, words, inputs, targets, objective):
        seen.append((len(words), inputs.samples))
        if len(words) * inputs.samples > 4:
            raise torch.OutOfMemoryError("no room")
        return plain(self, words, inputs, targets, objective)

    monkeypatch.setattr(DevicePopulation, "_chunk_sums", short)
    torch.testing.assert_close(evaluator(case.masks), wanted)
    tries = len(seen)
    assert seen[0] == (3, SAMPLES)
    torch.testing.assert_close(evaluator(case.masks), wanted)
    assert all(rows * columns <= 4 for rows, columns in seen[tries:])  # the second call knows


def test_no_memory_for_one_sample_is_an_error_with_the_numbers(cases, monkeypatch):
    evaluator = cases["mlp"].evaluator()

    def none(*arguments):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(DevicePopulation, "_chunk_sums", none)
    with pytest.raises(MemoryError, match=r"no memory for one candidate on one sample[\s\S]*on_one_sample  \d{3}\n"):
        evaluator(cases["mlp"].masks)


def test_no_memory_grows_with_candidates_times_weights(cases):
    case = cases["mlp"]
    evaluator = case.evaluator()
    evaluator(case.masks)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    many = PackedMasks.cat([case.masks] * 7)
    with Watch():
        evaluator._compiled.sums(many.words, "cross_entropy")
    own = evaluator._compiled.program(evaluator._example()).bytes.own
    assert largest <= max(many.words.nbytes, len(many) * SAMPLES * own)
    assert largest < len(many) * case.layout.n


def test_bytes_are_those_of_what_is_alive(cases):
    runner = cases["mlp"].evaluator()._compiled
    program = runner.program(runner.batches.kinds[0].example)
    assert program.bytes == DeviceBytes(own=4 * (19 + 17), shared=4 * 70)  # two layers beside one another; the input
