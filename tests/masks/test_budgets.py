"""Layer budgets add up to exactly k, whatever the scheme, and each scheme is what its paper says."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optprune_fast.masks.budgets import SCHEMES, kept_by_layer, lamp_scores, layer_budgets, layer_counts, share_out
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import magnitude
from optprune_fast.masks.operators import random_masks

SHAPES = {"conv": (4, 3, 3, 3), "wide": (10, 70), "tiny": (1, 2), "vector": (5,)}  # 108, 700, 2 and 5 weights
LAYOUT = MaskLayout.from_shapes(SHAPES)
SIZES = [108, 700, 2, 5]
EVERY_SCHEME = pytest.mark.parametrize("scheme", SCHEMES)


def weights_of(seed: int = 0, values: tuple[float, ...] | None = None) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    if values is None:
        return {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
    return {name: torch.tensor(values)[torch.randint(len(values), shape, generator=random)]
            for name, shape in SHAPES.items()}


# ---- every scheme


@EVERY_SCHEME
@given(budget=st.one_of(st.integers(0, 815), st.sampled_from((0, 1, 3, 4, 814, 815))), seed=st.integers(0, 9),
       values=st.sampled_from((None, (1.0, -1.0), (0.0, 2.0), (0.0,))))
@settings(max_examples=30, deadline=None)
def test_budgets_add_up_to_exactly_k_and_fit_into_the_layers(scheme, budget, seed, values):
    counts = layer_counts(LAYOUT, weights_of(seed, values), budget, scheme)
    assert sum(counts) == budget
    assert all(0 <= count <= size for count, size in zip(counts, SIZES, strict=True))


@EVERY_SCHEME
@given(seed=st.integers(0, 9), held=st.integers(0, 100), budget=st.integers(100, 300))
@settings(max_examples=30, deadline=None)
def test_budgets_leave_room_for_the_core_and_none_for_what_may_not_be_chosen(scheme, seed, held, budget):
    core = random_masks(LAYOUT, held, [seed])
    within = random_masks(LAYOUT, 300, [seed + 1])
    counts = layer_counts(LAYOUT, weights_of(seed), budget, scheme, core=core, within=within)
    assert sum(counts) == budget
    for count, least, most in zip(counts, kept_by_layer(core)[0], kept_by_layer(core | within)[0], strict=True):
        assert least <= count <= most


@pytest.mark.parametrize("scheme", ["uniform", "erk", "lamp"])
@pytest.mark.parametrize("budget", [4, 5, 8])
def test_no_layer_is_left_empty_while_there_is_a_weight_for_each(scheme, budget):
    assert min(layer_counts(LAYOUT, weights_of(), budget, scheme)) >= 1


@EVERY_SCHEME
def test_the_public_name_gives_budgets_by_layer_and_only_reads_the_model(scheme):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 4))
    before = [parameter.clone() for parameter in model.parameters()]
    budgets = layer_budgets(model, 0.7, scheme)
    assert list(budgets) == ["0.weight", "2.weight"]
    assert sum(budgets.values()) == 75 - round(0.7 * 75)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    mask = magnitude(model, 0.7, scope=scheme).mask
    assert kept_by_layer(mask)[0].tolist() == list(budgets.values())


# ---- uniform and ERK


def test_uniform_rounds_by_largest_remainder():
    # 815 · 0.1 = 81.5, so 81 kept: 10.73, 69.57, 0.199, 0.497. A weight each is the least, so 79 go as 108 : 700,
    # which is 10.56 and 68.44.
    assert layer_counts(LAYOUT, weights_of(), 81, "uniform") == [11, 68, 1, 1]
    even = MaskLayout.from_shapes(dict.fromkeys("abcde", (1, 3)))
    assert layer_counts(even, {name: torch.ones(1, 3) for name in "abcde"}, 7, "uniform") == [2, 2, 1, 1, 1]


def test_erk_is_proportional_to_the_sum_of_dimensions():
    # LeNet-300-100: (784 + 300) : (300 + 100) : (100 + 10) of 5 % of 266,200 = 13,310 weights, by hand:
    # the small layer would get 918.5 and holds 1,000, so none is full.
    shapes = {"1": (300, 784), "2": (100, 300), "3": (10, 100)}
    layout = MaskLayout.from_shapes(shapes)
    counts = layer_counts(layout, {name: torch.ones(shape) for name, shape in shapes.items()}, 13310, "erk")
    assert counts == [9051, 3340, 919]  # 9051.47, 3340.03, 918.51


def test_erk_counts_the_sides_of_a_kernel():
    # (4 + 3 + 3 + 3) : (10 + 70) = 13 : 80
    shapes = {name: SHAPES[name] for name in ("conv", "wide")}
    layout = MaskLayout.from_shapes(shapes)
    assert layer_counts(layout, {name: torch.ones(shape) for name, shape in shapes.items()}, 93, "erk") == [13, 80]


def test_a_full_layer_passes_the_rest_on_in_proportion():
    # 784-40-20-10 at 90 %: 3,236 go as 824 : 60 : 30, which is 2917.36, 212.43 and 106.21 (of 200).
    # At 70 %, 9,708 would give the last 318.6: it is full, and 9,508 go as 824 : 60, which is 8862.7 and 645.3.
    shapes = {"1": (40, 784), "2": (20, 40), "3": (10, 20)}
    layout = MaskLayout.from_shapes(shapes)
    weights = {name: torch.ones(shape) for name, shape in shapes.items()}
    assert layer_counts(layout, weights, layout.budget(0.9), "erk") == [2917, 213, 106]
    assert layer_counts(layout, weights, layout.budget(0.7), "erk") == [8863, 645, 200]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_shared_out_is_within_one_of_the_exact_solution(data):
    layers = data.draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20), st.integers(0, 20)), min_size=1,
                                max_size=6))
    shares, least = [x[0] for x in layers], [x[1] for x in layers]
    most = [x[1] + x[2] for x in layers]
    total = data.draw(st.integers(sum(least), sum(most)))
    counts = share_out(total, shares, least, most)
    assert sum(counts) == total
    # One rate explains all counts: those between their bounds within one weight, the others beyond their bound.
    low = max((Fraction(c - 1, s) for c, s, b in zip(counts, shares, least, strict=True) if c > b), default=Fraction(0))
    high = min((Fraction(c + 1, s) for c, s, b in zip(counts, shares, most, strict=True) if c < b), default=low + 1)
    assert low <= high


# ---- LAMP


def slow_lamp(weight: torch.Tensor) -> list[float]:
    """Every score by its own sum, in float64; equal magnitudes rank by position."""
    values = [abs(x) for x in weight.double().flatten().tolist()]
    return [w * w / sum(v * v for j, v in enumerate(values) if (-v, j) <= (-w, i)) if w else 0.0
            for i, w in enumerate(values)]


@pytest.mark.parametrize("values", [None, (1.0, -1.0), (0.0, -0.5, 0.5, 2.0), (0.0, -0.0)])
def test_lamp_scores_agree_with_sums_one_by_one(values):
    for whole in weights_of(3, values).values():
        weight = whole[..., :20]  # sums one by one take the square of what there is
        scores = lamp_scores(weight)
        assert (scores.dtype, scores.shape) == (torch.float64, weight.shape)
        torch.testing.assert_close(scores.flatten(), torch.tensor(slow_lamp(weight), dtype=torch.float64), rtol=1e-13,
                                   atol=0)


@pytest.mark.parametrize("budget", [1, 4, 40, 400])
def test_lamp_keeps_the_highest_scores_of_all_layers(budget):
    weights = weights_of(4)
    slow = [(-score, layer) for layer, weight in enumerate(weights.values()) for score in slow_lamp(weight)]
    kept = [layer for _, layer in sorted(slow)[:budget]]
    assert layer_counts(LAYOUT, weights, budget, "lamp") == [kept.count(layer) for layer in range(4)]


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_lamp_scores_do_not_depend_on_the_scale_of_a_layer(scale):
    weight = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lamp_scores(weight * scale), lamp_scores(weight), rtol=1e-13, atol=0)


# ---- errors


def test_an_unknown_scheme_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="scheme must be one of global, uniform, erk, lamp\n  scheme  'owl'"):
        layer_budgets(nn.Linear(4, 4), 0.5, "owl")


@pytest.mark.parametrize(("sparsity", "text"), [(1.0, r"sparsity must lie in \[0, 1\)"),
                                                (0.99, "no weight of 16 would be kept")])
def test_a_sparsity_out_of_reach_is_an_error(sparsity, text):
    with pytest.raises(ValueError, match=text):
        layer_budgets(nn.Linear(4, 4), sparsity, "erk")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_that_are_not_finite_are_an_error_in_every_scheme(scheme):
    model = nn.Linear(4, 4)
    model.weight.data[1, 2] = float("inf")
    with pytest.raises(ValueError, match="weights must be finite\n  layer  'weight'"):
        layer_budgets(model, 0.5, scheme)


@EVERY_SCHEME
@pytest.mark.parametrize("budget", [9, 31])
def test_a_budget_beyond_core_and_choice_is_an_error(scheme, budget):
    core = random_masks(LAYOUT, 10, [0])
    within = random_masks(LAYOUT, 20, [1], within=~core)
    with pytest.raises(ValueError, match=r"the budget must lie between 10 \(the core\) and 30 \(.*\)\n  budget"):
        layer_counts(LAYOUT, weights_of(), budget, scheme, core=core, within=within)
