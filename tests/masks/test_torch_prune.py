"""Masks go to `torch.nn.utils.prune` and come back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.torch_prune import from_torch_prune, to_torch_prune


def net(tied: bool = False) -> nn.Module:
    model = nn.Sequential(nn.Linear(65, 65), nn.ReLU(), nn.Linear(65, 65), nn.Conv1d(1, 2, 3))
    if tied:
        model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("tied", [False, True])
def test_a_mask_survives_the_way_through_torch_prune(tied: bool):
    model = net(tied)
    layout = MaskLayout.of(model)
    mask = random_masks(layout, 100, [1])[0]
    weights = {name: weight.clone() for name, weight in layout.weights_of(model).items()}
    pruned = to_torch_prune(model, mask)
    assert from_torch_prune(pruned) == mask
    dense = mask.to_dense()
    for name in ("0", "2", "3"):
        layer = layout[f"{name}.weight"].name
        expected = weights[layer] * dense[layer][0]
        assert torch.equal(pruned.get_submodule(name).weight, expected)
        prune.remove(pruned.get_submodule(name), "weight")
        assert torch.equal(pruned.get_submodule(name).weight, expected)


def test_a_mask_made_by_torch_is_read():
    model = net()
    prune.global_unstructured([(model[0], "weight"), (model[2], "weight")], prune.L1Unstructured, amount=0.9)
    mask = from_torch_prune(model)
    assert [layer.name for layer in mask.layout] == ["0.weight", "2.weight"]
    kept = torch.cat([model[i].weight_mask.flatten() for i in (0, 2)]).bool()
    assert torch.equal(mask.flat()[0], kept)


def test_a_model_that_is_not_pruned_is_an_error():
    with pytest.raises(ValueError, match=r"no parameter is pruned by torch\.nn\.utils\.prune"):
        from_torch_prune(net())


def test_a_pruned_model_has_no_plain_weights_and_the_error_says_what_to_do():
    model = prune.l1_unstructured(nn.Linear(4, 2), "weight", amount=3)
    with pytest.raises(ValueError, match=r"pruned by torch\.nn\.utils\.prune[\s\S]*prune\.remove"):
        MaskLayout.of(model)
