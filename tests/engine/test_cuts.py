"""Outputs of a convolution do not depend on how the picture around them is cut into registers and bands."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.runtime import native
from optprune_fast.testing.tolerance import assert_as_accurate

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
SIZES = [(3, 3), (4, 5), (5, 9), (6, 16), (7, 17), (8, 30), (13, 18), (20, 11)]  # leftovers of every patch's height


@pytest.mark.parametrize("share", [0.6, 0.02])  # bands of one patch, and of the whole picture
@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("channels", [3, 40])  # inputs of a patch that fit into the first-level cache, and do not
@pytest.mark.parametrize("isa", native.isas())
def test_a_cropped_picture_has_the_same_outputs(isa: str, channels: int, pools: bool, share: float, monkeypatch,
                                                plain_loop) -> None:
    monkeypatch.setenv("OPTPRUNE_ISA", isa)
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(channels, 5, (3, 2)), nn.ReLU(), *([nn.MaxPool2d(2)] if pools else [])).eval()
    picture = torch.randn(3, channels, 23, 33)
    evaluator = Evaluator(model, (picture, None), "mse_to_dense", backend="native")
    masks = random_masks(evaluator.layout, round(share * evaluator.layout.n), candidate_seeds(7, 0, 2))
    whole = evaluator.outputs(masks)
    same, exact = (plain_loop(model, masks, picture, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert_as_accurate(whole, same, exact, terms=channels * 6, magnitude=max(1.0, float(exact.abs().max())))
    for height, width in SIZES if not pools else SIZES[1:]:
        crop = Evaluator(model, (picture[:, :, :height, :width], None), "mse_to_dense", backend="native").outputs(masks)
        assert torch.equal(crop, whole[..., :crop.shape[-2], :crop.shape[-1]])
