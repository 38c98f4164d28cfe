"""Magnitude pruning: exactly k weights, the largest, ties by (layer, index)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optprune_fast.masks.budgets import layer_budgets
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import SCOPES, magnitude, select


def net(values: tuple[float, ...] | None = None, seed: int = 0) -> nn.Module:
    """Two layers of 3 × 65 and 4 × 3 weights: normal ones, or drawn from a few values so that many tie."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(65, 3), nn.ReLU(), nn.Linear(3, 4))
    if values is not None:
        with torch.no_grad():
            for layer in (model[0], model[2]):
                layer.weight.copy_(torch.tensor(values)[torch.randint(len(values), layer.weight.shape)])
    return model


def ranked(model: nn.Module) -> list[int]:
    """Flat indices from the largest magnitude down, ties by (layer, index): plain Python sorts stably."""
    flat = torch.cat([w.flatten() for w in MaskLayout.of(model).weights_of(model).values()]).abs().tolist()
    return sorted(range(len(flat)), key=lambda i: -flat[i])


@given(st.floats(0, 0.99), st.integers(0, 20), st.sampled_from((None, (1.0, -1.0), (0.0, -0.5, 0.5, 2.0), (0.0, -0.0))))
@settings(max_examples=40, deadline=None)
def test_exactly_k_weights_are_kept_and_ties_rank_by_layer_and_index(sparsity: float, seed: int, values):
    model = net(values, seed)
    k = 207 - round(sparsity * 207)
    selection = magnitude(model, sparsity)
    assert selection.mask.indices().tolist() == sorted(ranked(model)[:k])
    assert int(selection.pool.count()) == 0


def test_the_threshold_is_the_smallest_magnitude_kept():
    model = net()
    selection = magnitude(model, 0.9)
    flat = torch.cat([w.flatten() for w in MaskLayout.of(model).weights_of(model).values()]).abs()
    assert selection.threshold == float(flat[selection.mask.indices()].min())


@pytest.mark.parametrize("values", [None, (1.0, -1.0)])
@pytest.mark.parametrize("pool", [0.0, 0.1, 0.9])
def test_the_pool_is_what_follows_rank_k(values, pool: float):
    model = net(values)
    selection = magnitude(model, 0.9, pool=pool)
    k, size = 207 - round(0.9 * 207), round(pool * 207)
    assert selection.pool.indices().tolist() == sorted(ranked(model)[k:k + size])
    assert int(selection.mask.overlap(selection.pool)) == 0


def test_scope_layer_prunes_each_layer_at_the_sparsity():
    model = net()
    selection = magnitude(model, 0.5, scope="layer", pool=0.25)
    for name, (n, kept, pool) in {"0.weight": (195, 97, 49), "2.weight": (12, 6, 3)}.items():
        flat = MaskLayout.of(model).weights_of(model)[name].flatten().abs()
        order = flat.argsort(descending=True, stable=True)
        assert flat.numel() == n
        for mask, wanted in ((selection.mask, order[:kept]), (selection.pool, order[kept:kept + pool])):
            assert mask.to_dense()[name].flatten().nonzero().flatten().tolist() == sorted(wanted.tolist())
        assert selection.threshold[name] == float(flat[order[kept - 1]])


def test_a_tied_weight_is_ranked_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    assert magnitude(model, 0.5).mask.count().tolist() == [32]


def test_the_model_is_only_read():
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    magnitude(model, 0.9, pool=0.1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_an_error_that_names_the_layer(bad: float):
    model = net()
    model[2].weight.data[1, 2] = bad
    with pytest.raises(ValueError, match=r"weights must be finite\n  layer  '2\.weight'"):
        magnitude(model, 0.5)


@pytest.mark.parametrize("sparsity", [1.0, -0.01, 2.0, float("nan")])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_sparsity_outside_zero_to_one_is_an_error(sparsity: float, scope: str):
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        magnitude(net(), sparsity, scope=scope)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_budget_of_nothing_is_an_error(scope: str):
    with pytest.raises(ValueError, match="no weight of 207 would be kept"):
        magnitude(net(), 0.999, scope=scope)


@pytest.mark.parametrize("pool", [-0.1, 1.1])
def test_a_pool_outside_zero_to_one_is_an_error(pool: float):
    with pytest.raises(ValueError, match=r"pool must lie in \[0, 1\]"):
        magnitude(net(), 0.9, pool=pool)


def test_a_pool_larger_than_what_is_pruned_is_an_error():
    for scope in ("global", "erk"):
        with pytest.raises(ValueError, match="the pool must fit into the 104 pruned weights"):
            magnitude(net(), 0.5, scope=scope, pool=0.6)
    layout = MaskLayout.of(net())
    with pytest.raises(ValueError, match="the pool must fit into the 7 pruned weights"):
        select(layout, layout.weights_of(net()), 200, 8)


@pytest.mark.parametrize("scope", ["uniform", "erk", "lamp"])
@pytest.mark.parametrize("pool", [0.0, 0.25, 0.5])
def test_other_scopes_keep_the_largest_of_each_layer_as_many_as_its_budget(scope: str, pool: float):
    model = net()
    selection = magnitude(model, 0.5, scope=scope, pool=pool)
    kept = layer_budgets(model, 0.5, scope)
    assert selection.mask.count().tolist() == [sum(kept.values())] == [207 - round(0.5 * 207)]
    assert selection.pool.count().tolist() == [round(pool * 207)]
    for name, count in kept.items():
        flat = MaskLayout.of(model).weights_of(model)[name].flatten().abs()
        order = flat.argsort(descending=True, stable=True).tolist()
        mask, follow = (masks.to_dense()[name].flatten().nonzero().flatten().tolist()
                        for masks in (selection.mask, selection.pool))
        assert mask == sorted(order[:count])
        assert follow == sorted(order[count:count + len(follow)])
        assert selection.threshold[name] == float(flat[order[count - 1]])


def test_scope_layer_rounds_each_layer_by_itself_and_uniform_the_whole():
    model = nn.Sequential(*(nn.Linear(3, 1) for _ in range(5)))
    assert magnitude(model, 0.5, scope="layer").mask.count().tolist() == [5]  # 3 - round(1.5) each
    assert magnitude(model, 0.5, scope="uniform").mask.count().tolist() == [7]  # 15 - round(7.5)


def test_a_scope_that_is_not_known_is_an_error():
    with pytest.raises(ValueError, match="scope must be one of global, uniform, erk, lamp, layer, or N:M, such as 2:4\n"
                                         "  scope  'row'"):
        magnitude(net(), 0.5, scope="row")


# ---- N:M patterns


def largest_of_groups(row: list[float], kept: int, group: int) -> list[int]:
    """Positions that stay in one row: plain Python sorts stably."""
    chosen = []
    for first in range(0, len(row), group):
        part = range(first, min(first + group, len(row)))
        chosen += sorted(part, key=lambda i: -abs(row[i]))[: -(-kept * len(part) // group)]
    return sorted(chosen)


@pytest.mark.parametrize("scope", ["2:4", "1:2", "4:4", "1:1", "3:7", "1:65", "5:100"])
@pytest.mark.parametrize("values", [None, (1.0, -1.0), (0.0, -0.0, 1e-45, -2e-45)])
def test_a_pattern_keeps_the_largest_of_every_group_of_a_row(scope: str, values):
    model = nn.Sequential(*net(values), nn.Conv2d(2, 3, 3))
    kept, group = map(int, scope.split(":"))
    selection = magnitude(model, scope=scope)
    for name, dense in selection.mask.to_dense().items():
        weight = model.get_parameter(name).detach().flatten(1)
        for row, mark in zip(weight.tolist(), dense[0].flatten(1), strict=True):
            assert mark.nonzero().flatten().tolist() == largest_of_groups(row, kept, group)
        assert selection.threshold[name] == float(weight[dense[0].flatten(1)].abs().min())
    assert int(selection.pool.count()) == 0


@pytest.mark.parametrize("values", [None, (1.0, -1.0), (0.0, 1.0)])
def test_the_pool_of_a_pattern_is_the_largest_of_what_it_prunes(values):
    model = net(values)
    selection = magnitude(model, scope="1:4", pool=0.3)
    kept = set(selection.mask.indices().tolist())
    follow = [i for i in ranked(model) if i not in kept][:round(0.3 * 207)]
    assert selection.pool.indices().tolist() == sorted(follow)


def test_a_pattern_agrees_with_the_sparsity_or_is_refused():
    assert int(magnitude(net(), 0.75, scope="1:4").mask.count()) == int(magnitude(net(), scope="1:4").mask.count())
    with pytest.raises(ValueError, match=r"scope 2:4 prunes 0.5 of the weights, and sparsity says something else\n"
                                         r"  sparsity  0.95\n  scope  '2:4'\nleave sparsity= out"):
        magnitude(net(), 0.95, scope="2:4")
    with pytest.raises(ValueError, match="the pool must fit into the"):
        magnitude(net(), scope="2:4", pool=0.6)


@pytest.mark.parametrize("scope", ["4:2", "0:4", "2:", "a:b", "2:4:8", "-1:4", "1.5:4"])
def test_a_pattern_that_is_none_is_an_error(scope: str):
    with pytest.raises(ValueError, match=r'an N:M scope must be two whole numbers, 1 <= N <= M, as in "2:4"\n  scope'):
        magnitude(net(), scope=scope)
