"""moved_linear's Triton kernels in Triton's interpreter, in a process of their own (test_triton_interpreter.py)."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.engine import objective
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.moved_linear import moved_linear, operation, triton_impl
from optprune_fast.ops.moved_linear.reference import moved_linear_reference
from optprune_fast.ops.moved_linear.terms import Entries, Next, Terms
from optprune_fast.ops.triton_support import Epilogue
from optprune_fast.ops.words import pack
from optprune_fast.plan.reference import ACTIVATIONS
from optprune_fast.runtime.dispatch import calls
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.moved_samples import starts_of
from optprune_fast.testing.on_device import judge, placed
from optprune_fast.testing.poison import Poisoned
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects

[SUBJECT] = [s for s in subjects() if s.name == "moved_linear"]
GELU = Epilogue(None, "gelu")


def case(O=7, B=70):  # noqa: E741
    """Sums, columns and terms of five moves: one changes nothing, one changes a unit twice."""
    draw = torch.Generator().manual_seed(O)

    def normal(*shape):
        return torch.randn(shape, generator=draw)

    units, rows = torch.tensor([3, 0, 8, 8, 1]), torch.randint(O, (6,), generator=draw)
    terms = Terms(units, starts_of([1, 0, 1, 2, 1]), normal(5, B), rows, starts_of([0, 0, 3, 1, 2]), normal(6),
                  normal(6, B))
    return normal(B, O), normal(9, O), terms


@pytest.mark.parametrize("sample", samples("moved_linear"), ids=lambda sample: sample.name)
def test_every_sample_agrees_with_float64_amid_poison(sample):
    before = calls["moved_linear", "triton"]
    arguments, guards = placed(sample.arguments, "cpu")
    result = operation(*arguments, backend="triton")
    assert calls["moved_linear", "triton"] == before + 1
    judge(SUBJECT, sample, result, moved_linear(*sample.arguments, backend="torch"))
    for guard in guards:
        guard.assert_intact()


def test_other_types_are_declined_by_name():
    with pytest.raises(BackendError, match="takes float32, not float64"):
        moved_linear(*samples("moved_linear", torch.float64)[0].arguments, backend="triton")


def test_neither_64_bit_offsets_nor_moves_of_a_program_change_a_bit(monkeypatch):
    sums, columns, terms = case(O=33)
    found = []
    for enough in (1, 10**9):  # all moves in a program, and each in one of its own
        monkeypatch.setattr(triton_impl, "ENOUGH_PROGRAMS", enough)
        for wide in (False, True):
            found.append(torch.full((5, *sums.shape), float("nan")))
            triton_impl.launch(sums, columns, terms, found[-1], GELU, wide=wide)
    assert all(torch.equal(one, found[0]) for one in found)
    wanted = ACTIVATIONS["gelu"](moved_linear_reference(sums, columns, *terms))
    torch.testing.assert_close(found[0].double(), wanted, atol=1e-5, rtol=1e-5)


def test_nothing_is_written_around_the_output_and_nothing_read_past_the_end_of_memory(to_a_wall):
    sums, columns, terms = case(O=33)
    out = Poisoned(torch.empty(5, *sums.shape), empty=True)
    triton_impl.launch(to_a_wall(sums), to_a_wall(columns), Terms(*map(to_a_wall, terms)), out.tensor, wide=False)
    torch.testing.assert_close(out.tensor.double(), moved_linear_reference(sums, columns, *terms), atol=1e-5, rtol=1e-5)
    out.assert_surroundings_intact()


def test_moved_sums_are_stored_in_16_bits_where_factors_have_them():
    sums, columns, terms = case()
    out = triton_impl.fused(sums, columns.half(), terms, dtype=torch.float16)
    assert torch.equal(out, triton_impl.fused(sums, columns.half().float(), terms).half())


def test_an_infinite_input_reaches_the_row_of_its_flip_alone():
    sums, columns, terms = case()
    terms.inputs[0] = float("inf")
    out = triton_impl.fused(sums, columns, terms)
    assert (out.isinf() | out.isnan()).nonzero()[:, 2].unique().tolist() == [int(terms.rows[0])]


@pytest.mark.parametrize("classes", [1, 2, 10, 17, 33, 70])
@pytest.mark.parametrize("kind", ["cross_entropy", "error"])
def test_losses_are_those_of_the_moved_sums(classes, kind):
    sums, columns, terms = case(classes, B=67)
    targets = torch.arange(67) % classes
    found = triton_impl.losses(sums, columns, terms, targets, kind)
    wanted = getattr(objective, kind)(moved_linear_reference(sums, columns, *terms), targets)
    torch.testing.assert_close(found.double(), wanted.double(), atol=2e-5, rtol=1e-5)
    assert torch.equal(found, triton_impl.losses(sums, columns, terms, targets, kind, wide=True))


@pytest.mark.parametrize("classes", [1, 10, 17, 33, 70])
@pytest.mark.parametrize("kind", ["cross_entropy", "error"])
def test_losses_of_the_layer_behind_are_those_of_its_logits(classes, kind):
    width, samples_ = 67, 35
    sums, columns, terms = case(width, samples_)
    weight = torch.randn(classes, width, generator=torch.Generator().manual_seed(1))
    words = pack(torch.rand(5, classes, width, generator=torch.Generator().manual_seed(2)) < 0.4)
    bias, targets = torch.linspace(-1, 1, classes), torch.arange(samples_) % classes
    hidden = ACTIVATIONS["gelu"](moved_linear_reference(sums, columns, *terms))
    for shift in (bias, None):
        logits = masked_linear_reference(hidden, weight, words) + (0 if shift is None else shift)
        wanted = getattr(objective, kind)(logits, targets)
        last = Next(weight, words, shift, "fp32")
        found = triton_impl.next_losses(sums, columns, terms, GELU, last, targets, kind)
        torch.testing.assert_close(found.double(), wanted.double(), atol=5e-5, rtol=1e-5)
    wide = triton_impl.next_losses(sums, columns, terms, GELU, last, targets, kind, wide=True)
    assert torch.equal(found, wide)


@pytest.mark.parametrize("factors", [torch.float32, torch.float16], ids=str)
def test_rows_give_what_their_flips_make_of_them(factors):
    """The first two by how much they change, the others whole; one of them has no flips."""
    draw = torch.Generator().manual_seed(0)
    source, x = torch.randn(4, 600, generator=draw), torch.randn(6, 600, generator=draw).to(factors)
    entries = Entries(torch.tensor([2, 0, 2, 3]), torch.tensor([0, 2, 0, 0]), torch.tensor([2, 3, 2, 0]),
                      torch.tensor([5, 1, 1]), torch.tensor([0.5, -2.0, 1.0]))
    found = triton_impl.moved_inputs(source, entries, x, 2, GELU, factors)
    flipped = source.double().clone()
    flipped[2] += 0.5 * x[5].double() - 2 * x[1].double()
    flipped[0] += x[1].double()
    before, after = (ACTIVATIONS["gelu"](t).to(factors).double() for t in (source.double(), flipped))
    wanted = torch.stack([after[2] - before[2], after[0] - before[0], after[2], before[3]])
    torch.testing.assert_close(found.double(), wanted, atol=1e-5 if factors == torch.float32 else 4e-3, rtol=1e-5)


def test_a_row_without_flips_does_not_change():
    source = torch.randn(1, 5)
    none = torch.zeros(1, dtype=torch.int64)
    entries = Entries(none, none, none, none[:0], torch.empty(0))
    assert torch.equal(triton_impl.moved_inputs(source, entries, source, 1, GELU, torch.float32), torch.zeros(1, 5))
