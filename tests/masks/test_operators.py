"""Random operators on masks: every budget exact, every choice a function of the seed alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, check_moves, crossover, mutate, random_masks, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops import choose_bits

LAYOUT = MaskLayout.from_shapes({"a": (3, 65), "b": (2, 3, 3, 3), "c": (7,), "d": (4, 128)})
N = LAYOUT.n
SEEDS = candidate_seeds(0, 0, 5)
budgets = st.integers(0, N)
seeds = st.integers(-(2**63), 2**63 - 1)


def some(budget: int, seed: int, P: int = 1) -> PackedMasks:
    return random_masks(LAYOUT, budget, candidate_seeds(seed, 9, P))


def inside(a: PackedMasks, b: PackedMasks) -> bool:
    return bool(((a.words & ~b.words) == 0).all())


# ---- random masks


@given(budgets, st.lists(seeds, max_size=3))
@settings(max_examples=30, deadline=None)
def test_random_masks_keep_exactly_the_budget(budget: int, each: list[int]):
    masks = random_masks(LAYOUT, budget, each)
    assert masks.count().tolist() == [budget] * len(each)
    assert PackedMasks(LAYOUT, masks.words) == masks  # the tail is zero


def test_random_masks_keep_the_core_and_draw_from_within():
    core, within = some(50, 1), some(300, 2)
    masks = random_masks(LAYOUT, 200, SEEDS, core=core, within=within)
    assert masks.count().tolist() == [200] * 5
    assert masks.overlap(core).tolist() == [50] * 5
    assert inside(masks, core | within)
    assert len({tuple(row) for row in masks.words.tolist()}) == 5


@pytest.mark.parametrize("budget", ["least", "most"])
def test_the_ends_of_what_is_reachable_are_reached(budget: str):
    core, within = some(50, 1), some(300, 2)
    end = core if budget == "least" else core | within
    assert random_masks(LAYOUT, int(end.count()), [1], core=core, within=within) == end


def test_an_unreachable_budget_is_an_error():
    core, within = some(50, 1), some(300, 2)
    most = int((core | within).count())
    for budget in (49, most + 1):
        with pytest.raises(ValueError, match=rf"between 50 \(the core\) and {most}[\s\S]*budget  {budget}"):
            random_masks(LAYOUT, budget, [1], core=core, within=within)
    with pytest.raises(ValueError, match=rf"and {N} "):
        random_masks(LAYOUT, N + 1, [1])


def test_random_masks_choose_every_weight_about_equally_often():
    share = random_masks(LAYOUT, N // 2, candidate_seeds(1, 0, 400)).flat().double().mean(0)
    assert float((share - 0.5).abs().max()) < 0.13  # five standard deviations of a coin thrown 400 times


@pytest.mark.parametrize("argument", ["core", "within"])
def test_a_core_or_pool_of_another_layout_is_an_error_even_if_its_words_are_as_many(argument: str):
    other = PackedMasks.full(MaskLayout.from_shapes({"w": (1, 64 * LAYOUT.W)}))
    with pytest.raises(ValueError, match=f"random_masks: {argument} is a mask of another layout"):
        random_masks(LAYOUT, 100, [1], **{argument: other})
    with pytest.raises(ValueError, match=f"mutate: {argument} is a mask of another layout"):
        mutate(some(100, 1), 3, [1], **{argument: other})


# ---- crossover


@given(budgets, st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_children_lie_between_intersection_and_union(budget: int, seed: int):
    first, second = some(budget, seed, 3), some(budget, seed + 100, 3)
    children = crossover(first, second, [seed, seed + 1, seed + 2])
    assert children.count().tolist() == [budget] * 3
    assert inside(first & second, children)
    assert inside(children, first | second)


def test_children_of_equal_parents_are_their_parents():
    parents = some(100, 1, 3)
    assert crossover(parents, parents, [1, 2, 3]) == parents


def test_parents_of_different_budgets_or_numbers_are_an_error():
    with pytest.raises(ValueError, match="parents must pair up and have equal budgets"):
        crossover(some(10, 1), some(11, 2), [1])
    with pytest.raises(ValueError, match="parents must pair up and have equal budgets"):
        crossover(some(10, 1, 2), some(10, 2, 1), [1])


# ---- mutation


@given(st.integers(10, N - 10), st.integers(0, 10), seeds)
@settings(max_examples=30, deadline=None)
def test_mutation_makes_exactly_that_many_swaps(budget: int, swaps: int, seed: int):
    parent = some(budget, 3)
    child = mutate(parent, swaps, [seed])
    assert child.count().tolist() == [budget]
    assert child.overlap(parent).tolist() == [budget - swaps]
    assert PackedMasks(LAYOUT, child.words) == child


def test_each_mask_can_have_its_own_number_of_swaps():
    parents = some(100, 1, 3)
    children = mutate(parents, torch.tensor([0, 5, 17]), [1, 2, 3])
    assert children.overlap(parents).tolist() == [100, 95, 83]


def test_mutation_keeps_the_core_and_adds_only_from_within():
    core, within = some(20, 1), some(300, 2)
    parents = random_masks(LAYOUT, 100, SEEDS, core=core)
    children = mutate(parents, 12, SEEDS, core=core, within=within)
    assert children.count().tolist() == [100] * 5
    assert inside(core, children[0])
    assert children.overlap(core).tolist() == [20] * 5
    assert inside(children & ~parents, within)
    assert children.overlap(parents).tolist() == [88] * 5


@pytest.mark.parametrize("swaps", [-1, torch.tensor([0, -2])])
def test_a_negative_number_of_swaps_is_an_error(swaps: int | torch.Tensor):
    with pytest.raises(ValueError, match=r"mutate: swaps must not be negative\n  swaps  "):
        mutate(some(100, 1, 2), swaps, [1, 2])


@pytest.mark.parametrize("make", [
    lambda seeds: random_masks(LAYOUT, 7, seeds),
    lambda seeds: mutate(some(7, 1, 3), 1, seeds),
    lambda seeds: crossover(some(7, 1, 3), some(7, 2, 3), seeds),
], ids=["random", "mutate", "crossover"])
def test_seeds_of_another_shape_are_an_error(make: Callable[[torch.Tensor], PackedMasks]):
    with pytest.raises(ValueError, match=r"words must be \[P, W\], counts and seeds \[P\]"):
        make(torch.arange(4).view(2, 2))


def test_fewer_swaps_are_made_where_fewer_are_possible():
    parent = some(N - 3, 1)
    assert mutate(parent, 10, [1]).overlap(parent).tolist() == [N - 6]
    assert mutate(parent, 10, [1], core=parent) == parent
    assert mutate(PackedMasks.full(LAYOUT), 10, [1]) == PackedMasks.full(LAYOUT)


# ---- moves


def test_a_move_toggles_its_weights_and_nothing_else():
    parent = some(100, 1)
    moves = torch.tensor([[0, 64, 65], [N - 1, -1, -1], [-1, -1, -1], [63, 64, 300]])
    neighbours = swap(parent, moves)
    for move, row in zip(moves.tolist(), neighbours.flat(), strict=True):
        expected = parent.flat()[0].clone()
        expected[[i for i in move if i >= 0]] ^= True
        assert torch.equal(row, expected)
    assert len(swap(parent, torch.empty(0, 2, dtype=torch.int64))) == 0


@pytest.mark.parametrize(("moves", "text"), [
    (torch.tensor([[0, N]]), rf"indices must lie in \[0, {N}\)"),
    (torch.tensor([[-2, 0]]), r"or be -1 to fill"),
    (torch.tensor([[3, -1, 3]]), "a move may name a weight once only"),
    (torch.tensor([0, 1]), r"moves must be int64 \[M, F\]"),
    (torch.tensor([[0, 1]], dtype=torch.int32), r"moves must be int64 \[M, F\]"),
    (torch.tensor([[0, 1]], device="meta"), "moves and parent must be on one device"),
])
def test_moves_that_cannot_be_made_are_errors(moves: torch.Tensor, text: str):
    with pytest.raises(ValueError, match=text):
        check_moves(some(100, 1), moves)


def test_moves_have_one_parent():
    with pytest.raises(ValueError, match="the parent must be a single mask"):
        swap(some(100, 1, 2), torch.tensor([[0]]))


# ---- seeds


def test_a_seed_depends_on_run_generation_and_index_alone():
    assert torch.equal(candidate_seeds(5, 2, 100)[:7], candidate_seeds(5, 2, 7))
    every = torch.cat([candidate_seeds(run, generation, 50) for run in range(4) for generation in range(4)])
    assert every.unique().numel() == 16 * 50


def test_a_mask_depends_on_its_own_seed_alone():
    assert random_masks(LAYOUT, 77, SEEDS)[3] == random_masks(LAYOUT, 77, SEEDS[3:4])[0]


@pytest.mark.parametrize("make", [
    lambda: random_masks(LAYOUT, 200, SEEDS),
    lambda: crossover(some(200, 1, 5), some(200, 2, 5), SEEDS),
    lambda: mutate(some(200, 1, 5), 30, SEEDS, core=some(200, 1)[0] & some(200, 3)[0]),
], ids=["random", "crossover", "mutate"])
def test_equal_seeds_give_equal_bits_on_every_backend(make: Callable[[], PackedMasks], monkeypatch):
    able = [b for b in choose_bits.operation.backends if choose_bits.operation.missing(b) is None]
    assert "torch" in able
    results = []
    for backend in able:
        monkeypatch.setenv("OPTPRUNE_BACKEND", backend)
        results.append(make())
    assert all(result == results[0] for result in results)
    assert make() == results[0]
