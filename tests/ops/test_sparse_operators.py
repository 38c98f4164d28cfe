"""What torch knows of the operations on slices: shapes, gradients, compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.slices import Slices, dense_weight, to_slices
from optprune_fast.ops.sparse_conv2d import sparse_conv2d
from optprune_fast.ops.sparse_linear import sparse_linear
from optprune_fast.ops.words import pack
from optprune_fast.runtime import native
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import meaning, samples
from optprune_fast.testing.subjects import Subject, subjects
from optprune_fast.testing.variants import moved

SPARSE = [s for s in subjects() if s.name.startswith("sparse_")]
BY_SUBJECT = [pytest.param(s, id=s.name) for s in SPARSE]
PLAINEST = [pytest.param(s, sample, id=f"{s.name}-{sample.name}") for s in SPARSE
            for sample in samples(s.name)[:2]]


def gradients(call: Any, *leaves: Tensor) -> list[Tensor]:
    given = [leaf.clone().requires_grad_() for leaf in leaves]
    call(*given).square().sum().backward()
    return [leaf.grad for leaf in given if leaf.grad is not None]


@pytest.mark.parametrize(("subject", "sample"), PLAINEST)
def test_torch_accepts_the_operator(subject: Subject, sample: Sample) -> None:
    x, shape, *planes, bias = sample.arguments[:8]
    torch.library.opcheck(subject.operator, (x.clone().requires_grad_(), shape, *planes, bias.clone().requires_grad_(),
                                             *sample.arguments[8:]))


@pytest.mark.parametrize("subject", BY_SUBJECT)
def test_shapes_alone_give_the_shape_of_the_result(subject: Subject) -> None:
    for sample in samples(subject.name):
        assert subject.function(*moved(sample.arguments, "meta")).shape == meaning(subject.name, sample).shape


@pytest.mark.filterwarnings("ignore:sparse_.* runs in plain torch")  # float64
def test_gradients_of_a_linear_layer_are_those_of_torch() -> None:
    x, shape, *planes, bias = samples("sparse_linear", torch.float64)[0].arguments
    weight = dense_weight(Slices(*planes), shape)
    ours = gradients(lambda x, bias: sparse_linear(x, shape, *planes, bias), x, bias)
    torchs = gradients(lambda x, bias: torch.nn.functional.linear(x, weight, bias), x, bias)
    torch.testing.assert_close(ours, torchs)


@pytest.mark.filterwarnings("ignore:sparse_.* runs in plain torch")
def test_gradients_of_a_linear_layer_without_bias_are_those_of_torch() -> None:
    x, shape, *planes, _ = samples("sparse_linear", torch.float64)[0].arguments
    weight = dense_weight(Slices(*planes), shape)
    torch.testing.assert_close(gradients(lambda x: sparse_linear(x, shape, *planes), x),
                               gradients(lambda x: torch.nn.functional.linear(x, weight), x))


@pytest.mark.filterwarnings("ignore:sparse_.* runs in plain torch")
@pytest.mark.parametrize("sample", [pytest.param(s, id=s.name) for s in samples("sparse_conv2d", torch.float64)
                                    if s.name.split("-")[0] in ("plain", "everything", "depthwise")])
def test_gradients_of_a_convolution_are_those_of_torch(sample: Sample) -> None:
    x, shape, *planes, bias, stride, padding, dilation, groups = sample.arguments
    weight = dense_weight(Slices(*planes), shape, groups=groups)
    ours = gradients(lambda x, bias: sparse_conv2d(x, shape, *planes, bias, stride, padding, dilation, groups), x, bias)
    conv2d = torch.nn.functional.conv2d
    torchs = gradients(lambda x, bias: conv2d(x, weight, bias, stride, padding, dilation, groups), x, bias)
    torch.testing.assert_close(ours, torchs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler imports what torch deprecates
@pytest.mark.parametrize("subject", BY_SUBJECT)
def test_compile_takes_it_whole(subject: Subject) -> None:
    x, shape, *rest = samples(subject.name)[0].arguments

    def loss(x: Tensor) -> Tensor:
        return torch.as_tensor(subject.function(x * 2, shape, *rest).relu())

    torch.testing.assert_close(gradients(torch.compile(loss, fullgraph=True), x), gradients(loss, x))


@pytest.mark.skipif(native.missing() is not None, reason="needs the compiled module")
@pytest.mark.parametrize("density", [0.05, 0.5])
def test_an_output_does_not_depend_on_the_samples_beside_it_nor_on_the_places(density: float) -> None:
    """One sample, a register of them, several tiles; columns and words: the same bits."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(70, 700, generator=generator) < density
    values = torch.randn(int(mask.sum()), generator=generator)
    x = torch.randn(50, 700, generator=generator)
    results = []
    for coded in (False, True):
        planes = to_slices(pack(mask), values, 700, coded=coded)
        whole = sparse_linear(x, [70, 700], *planes, backend="native")
        for size in (1, 3, 9, 17):
            parts = [sparse_linear(part, [70, 700], *planes, backend="native") for part in x.split(size)]
            assert torch.equal(torch.cat(parts), whole), size
        results.append(whole)
    assert torch.equal(*results)


@pytest.mark.skipif(native.missing() is not None, reason="needs the compiled module")
@pytest.mark.parametrize("batch", [1, 16])
def test_long_rows_are_as_exact_as_torch(batch: int) -> None:
    """The error of 4,096 columns is at most twice that of torch's blocked sums, without any floor."""
    generator = torch.Generator().manual_seed(4)
    mask = torch.rand(64, 4096, generator=generator) < 0.5
    values = torch.randn(int(mask.sum()), generator=generator)
    weight, x = torch.zeros(64, 4096).masked_scatter_(mask, values), torch.randn(batch, 4096, generator=generator)
    exact = x.double() @ weight.double().T
    ours = sparse_linear(x, [64, 4096], *to_slices(pack(mask), values, 4096), backend="native")
    assert (ours - exact).abs().max() <= 2 * (x @ weight.T - exact).abs().max()


@pytest.mark.parametrize("batch", [1, 4])
def test_a_pruned_weight_never_meets_its_activation(batch: int) -> None:
    """Dense torch has inf · 0 = NaN there."""
    mask = torch.rand(20, 300, generator=torch.Generator().manual_seed(5)) < 0.5
    mask[:, 7] = False
    values = torch.ones(int(mask.sum()))
    x = torch.ones(batch, 300)
    x[:, 7] = torch.inf
    out = sparse_linear(x, [20, 300], *to_slices(pack(mask), values, 300))
    assert torch.equal(out, mask.sum(1).float().expand(batch, 20))
