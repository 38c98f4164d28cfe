"""choose_bits's Triton kernel in Triton's interpreter; run by test_triton_interpreter.py like interpreter_cases.py."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.ops.choose_bits import choose_bits, triton_impl
from optprune_fast.ops.words import pack, popcount
from optprune_fast.testing.poison import Poisoned, poison_all
from optprune_fast.testing.samples import meaning, samples


@pytest.mark.parametrize("case", samples("choose_bits"), ids=lambda case: case.name)
def test_bits_of_every_sample_are_those_of_the_meaning(case):
    arguments, guards = poison_all(case.arguments)
    assert torch.equal(choose_bits(*arguments, backend="triton"), meaning("choose_bits", case))
    for guard in guards:
        guard.assert_intact()


def test_nothing_is_written_around_the_output():
    words = pack(torch.ones(3, 70, dtype=torch.bool))
    out = Poisoned(torch.empty_like(words), empty=True)
    triton_impl.launch(words, torch.tensor([0, 35, 70]), torch.arange(3), out.tensor)
    assert popcount(out.tensor).sum(1).tolist() == [0, 35, 70]
    out.assert_surroundings_intact()


def test_several_digits_and_steps_of_a_row_are_looked_at():
    words = pack(torch.rand(2, 64 * 2 * triton_impl.BLOCK + 1, generator=torch.Generator().manual_seed(0)) < 0.7)
    held, seeds = popcount(words).sum(1), torch.tensor([3, -4])
    for counts in (held // 3, held - 1):
        assert torch.equal(choose_bits(words, counts, seeds, backend="triton"),
                           choose_bits(words, counts, seeds, backend="torch"))


def test_a_count_out_of_range_is_the_nearest_that_is_in_it():
    words = pack(torch.ones(2, 70, dtype=torch.bool))
    out = triton_impl.run(words, torch.tensor([-5, 71]), torch.arange(2))
    assert torch.equal(out, torch.stack([words[0] * 0, words[1]]))
