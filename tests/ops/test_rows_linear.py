"""What torch knows of rows_linear: shapes, gradients; and that a weight in rows is what its formats say."""

from __future__ import annotations

import pytest
import torch

from optprune_fast.ops import rows_linear as subject
from optprune_fast.ops.rows import Rows, dense_weight
from optprune_fast.ops.rows_linear import rows_linear
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import meaning, samples
from optprune_fast.testing.variants import moved

pytestmark = pytest.mark.filterwarnings("ignore:rows_linear runs in plain torch")
DOUBLE = samples("rows_linear", torch.float64)
BOTH = pytest.mark.parametrize("sample", [pytest.param(s, id=s.name) for s in DOUBLE if s.name.startswith("B5-O11")])


@BOTH
def test_torch_accepts_the_operator(sample: Sample) -> None:
    x, shape, *planes, bias = sample.arguments
    torch.library.opcheck(subject.operator, (x.clone().requires_grad_(), shape, *planes, bias.clone().requires_grad_()))


def test_shapes_alone_give_the_shape_of_the_result() -> None:
    for sample in samples("rows_linear"):
        assert rows_linear(*moved(sample.arguments, "meta")).shape == meaning("rows_linear", sample).shape


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no-bias"])
@BOTH
def test_gradients_are_those_of_torch(sample: Sample, biased: bool) -> None:
    x, shape, *planes, bias = sample.arguments
    weight = dense_weight(Rows(*planes), shape)
    leaves = [x.clone().requires_grad_(), *([bias.clone().requires_grad_()] if biased else [])]
    ours, torchs = (torch.autograd.grad(out.square().sum(), leaves) for out in (
        rows_linear(leaves[0], shape, *planes, *(leaves[1:] or [None])),
        torch.nn.functional.linear(leaves[0], weight, *leaves[1:])))
    torch.testing.assert_close(ours, torchs)
