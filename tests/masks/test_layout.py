"""Which weights a layout has, and where their bits lie."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 65)
        self.body = nn.Sequential(nn.Linear(65, 3), nn.LayerNorm(3), nn.Conv2d(4, 6, 3, groups=2))
        self.head = nn.Conv1d(7, 2, 5)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.last = nn.Linear(4, 2)


def names(layout: MaskLayout) -> list[str]:
    return [layer.name for layer in layout]


def test_by_default_linear_and_convolution_weights_are_prunable_and_nothing_else():
    assert names(MaskLayout.of(Net())) == ["body.0.weight", "body.2.weight", "head.weight"]


def test_convolutions_are_rows_of_one_filter_each():
    layout = MaskLayout.of(Net())
    two, one = layout["body.2.weight"], layout["head.weight"]
    assert (two.rows, two.columns, two.row_words) == (6, 2 * 3 * 3, 1)
    assert (one.rows, one.columns, one.row_words) == (2, 7 * 5, 1)


@pytest.mark.parametrize(("columns", "words"), [(0, 0), (1, 1), (63, 1), (64, 1), (65, 2), (127, 2), (511, 8),
                                                  (513, 9)])
def test_each_row_starts_on_a_word(columns: int, words: int):
    layout = MaskLayout.from_shapes({"a": (3, columns), "b": (2, 2)})
    assert 3 * words + 2 == layout.W
    assert layout["b"].words == slice(3 * words, 3 * words + 2)
    assert layout.n == 3 * columns + 4


@given(st.lists(st.lists(st.integers(0, 70), min_size=1, max_size=2), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_position_is_the_place_of_the_weights_bit(shapes: list[list[int]]):
    layout = MaskLayout.from_shapes({f"w{i}": tuple(shape) for i, shape in enumerate(shapes)})
    everything = torch.arange(layout.n)
    expected = [64 * (layer.first_word + row * layer.row_words) + column
                for layer in layout for row in range(layer.rows) for column in range(layer.columns)]
    if layout.n:
        assert layout.positions(everything).tolist() == expected
    assert PackedMasks.full(layout).count().tolist() == [layout.n]


def test_a_tied_weight_counts_once_and_answers_to_both_names():
    layout = MaskLayout.of(Tied())
    assert layout.n == 16 + 8
    assert layout["first.weight"] == layout["second.weight"]
    assert layout["first.weight"].aliases == ("second.weight",)


def test_an_excluded_alias_frees_the_tied_weight():
    assert names(MaskLayout.of(Tied(), exclude="second")) == ["last.weight"]


def test_an_included_alias_prunes_the_tied_weight():
    assert names(MaskLayout.of(Tied(), include="second.weight")) == ["first.weight"]


@pytest.mark.parametrize(("rules", "expected"), [
    ({"include": "body.*.weight"}, ["body.0.weight", "body.1.weight", "body.2.weight"]),
    ({"include": "head"}, ["head.weight"]),
    ({"include": nn.Embedding}, ["embed.weight"]),
    ({"include": [nn.Conv1d, "body.0.bias"]}, ["body.0.bias", "head.weight"]),
    ({"exclude": "head"}, ["body.0.weight", "body.2.weight"]),
    ({"exclude": nn.Linear}, ["body.2.weight", "head.weight"]),
    ({"exclude": ["body.?", nn.Conv1d], "include": [nn.Linear, nn.Embedding]}, ["embed.weight"]),
])
def test_rules_are_patterns_and_types(rules: dict, expected: list[str]):
    assert names(MaskLayout.of(Net(), **rules)) == expected


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize("rule", ["boddy.*", nn.Conv3d])
def test_a_rule_that_matches_nothing_is_an_error_that_lists_the_parameters(argument: str, rule: object):
    with pytest.raises(ValueError, match=rf"{argument} matches no parameter[\s\S]*embed\.weight, body\.0\.weight"):
        MaskLayout.of(Net(), **{argument: rule})


def test_a_rule_must_be_a_pattern_or_a_module_type():
    with pytest.raises(TypeError, match="a rule is a name pattern or a module type"):
        MaskLayout.of(Net(), include=[3])


def test_nothing_left_to_prune_is_an_error():
    with pytest.raises(ValueError, match="nothing to prune is left"):
        MaskLayout.of(nn.LayerNorm(3))


def test_a_scalar_parameter_has_no_bits():
    with pytest.raises(ValueError, match="a scalar parameter has no weights"):
        MaskLayout.from_shapes({"scale": ()})


def test_an_unknown_layer_names_those_there_are():
    with pytest.raises(KeyError, match=r"no such layer[\s\S]*last\.weight"):
        MaskLayout.of(Tied())["fc.weight"]


def test_json_round_trip_keeps_layout_and_digest():
    layout = MaskLayout.of(Tied())
    again = MaskLayout.from_json(layout.to_json())
    assert again == layout
    assert again.digest == layout.digest


@pytest.mark.parametrize("other", [{"w": (2, 65)}, {"v": (2, 64)}, {"w": (2, 8, 8)}, {"w": (2, 64), "v": (1, 1)}])
def test_different_layouts_have_different_digests(other: dict):
    assert MaskLayout.from_shapes(other).digest != MaskLayout.from_shapes({"w": (2, 64)}).digest


@pytest.mark.parametrize(("sparsity", "kept"), [(0.0, 1000), (0.9, 100), (0.95, 50), (0.999, 1), (0.0004, 1000)])
def test_the_budget_is_exact(sparsity: float, kept: int):
    assert MaskLayout.from_shapes({"w": (10, 100)}).budget(sparsity) == kept


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.5, float("nan")])
def test_a_sparsity_outside_zero_to_one_is_an_error(sparsity: float):
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        MaskLayout.from_shapes({"w": (10, 100)}).budget(sparsity)


def test_a_budget_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no weight of 10 would be kept"):
        MaskLayout.from_shapes({"w": (1, 10)}).budget(0.99)


def test_weights_of_another_model_are_an_error():
    with pytest.raises(ValueError, match=r"the model does not have this layout's parameters[\s\S]*missing"):
        MaskLayout.of(Tied()).weights_of(Net())
