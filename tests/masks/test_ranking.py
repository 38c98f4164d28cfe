"""In a layer the largest weights stay: the core first, then what may be chosen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optprune_fast.masks.budgets import SCHEMES, kept_by_layer
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import magnitude, select
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.ranking import layer_ranks, ranked_masks, start_mask

MODEL = nn.Sequential(nn.Linear(65, 7), nn.ReLU(), nn.Linear(7, 3))
LAYOUT = MaskLayout.of(MODEL)
WEIGHTS = LAYOUT.weights_of(MODEL)
CORE = random_masks(LAYOUT, 12, [1])
WITHIN = random_masks(LAYOUT, 90, [2])


def slow_order(name: str) -> list[int]:
    """Positions in a layer, the first to be kept first."""
    core, within = (masks.to_dense()[name].flatten().tolist() for masks in (CORE, WITHIN))
    size = WEIGHTS[name].abs().flatten().tolist()
    return sorted(range(len(size)), key=lambda i: (not core[i], not within[i], -size[i], i))


def test_ranks_put_the_core_first_then_the_choice_then_the_rest_each_by_magnitude():
    ranks = layer_ranks(LAYOUT, WEIGHTS, core=CORE, within=WITHIN)
    for layer in LAYOUT:
        assert ranks[layer.weights].argsort().tolist() == slow_order(layer.name)


def test_ranked_masks_keep_the_first_of_each_layer():
    counts = torch.tensor([[0, 0], [1, 21], [455, 0], [17, 3]])
    masks = ranked_masks(LAYOUT, layer_ranks(LAYOUT, WEIGHTS, core=CORE, within=WITHIN), counts)
    assert torch.equal(kept_by_layer(masks), counts)
    for i, layer in enumerate(LAYOUT):
        for p, count in enumerate(counts[:, i].tolist()):
            kept = masks.to_dense()[layer.name][p].flatten().nonzero().flatten().tolist()
            assert kept == sorted(slow_order(layer.name)[:count])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("budget", [12, 13, 40, 100])
def test_a_start_keeps_the_budget_and_the_core_and_chooses_from_what_is_open(scheme, budget):
    mask = start_mask(LAYOUT, WEIGHTS, budget, CORE, scheme, within=WITHIN)
    assert mask.count().tolist() == [budget]
    assert mask.overlap(CORE).tolist() == [12]
    assert int((mask & ~(CORE | WITHIN)).count()) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("values", [None, (1.0, -1.0)])
def test_a_start_without_a_core_is_magnitude_pruning_of_that_scope(scheme, values):
    weights = WEIGHTS
    model = nn.Sequential(nn.Linear(65, 7), nn.ReLU(), nn.Linear(7, 3))
    if values is not None:
        for weight in LAYOUT.weights_of(model).values():
            weight.copy_(torch.tensor(values)[torch.randint(2, weight.shape)])
    weights = LAYOUT.weights_of(model)
    none = random_masks(LAYOUT, 0, [0])
    assert start_mask(LAYOUT, weights, LAYOUT.budget(0.9), none, scheme) == magnitude(model, 0.9, scope=scheme).mask


def test_a_global_start_under_a_core_of_the_largest_is_magnitude_pruning():
    selection = select(LAYOUT, WEIGHTS, 60, 100)
    core = select(LAYOUT, WEIGHTS, 25, 0).mask
    within = (selection.mask & ~core) | selection.pool
    assert start_mask(LAYOUT, WEIGHTS, 60, core, "global", within=within) == selection.mask


def test_a_start_of_an_unknown_scheme_is_an_error():
    with pytest.raises(ValueError, match="scheme must be one of global, uniform, erk, lamp"):
        start_mask(LAYOUT, WEIGHTS, 20, CORE, "owl")
