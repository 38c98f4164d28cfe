"""What torch knows of our operators: shapes, gradients, vmap, compile. No operator is named here either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.words import unpack
from optprune_fast.testing.sample import Sample
from optprune_fast.testing.samples import meaning, reference, samples
from optprune_fast.testing.subjects import Subject, subjects
from optprune_fast.testing.variants import moved

OPERATORS = [s for s in subjects() if s.masked]
BY_OPERATOR = [pytest.param(s, id=s.name) for s in OPERATORS]
PLAINEST = [pytest.param(s, sample, id=f"{s.name}-{sample.name}") for s in OPERATORS
            for sample in samples(s.name, torch.float64)[:2]]
AXES = [(x, weight, words) for x in (None, 0, -1) for weight in (None, 0) for words in (None, 0, 1)
        if (x, weight, words) != (None, None, None)]  # vmap wants an axis to map


@pytest.mark.parametrize(("subject", "sample"), PLAINEST)
def test_torch_accepts_the_operator(subject: Subject, sample: Sample) -> None:
    arguments = tuple(a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a
                      for a in sample.arguments)
    for straight_through in (False, True):
        torch.library.opcheck(subject.operator, arguments, {"straight_through": straight_through})


@pytest.mark.parametrize("subject", BY_OPERATOR)
def test_shapes_alone_give_the_shape_of_the_result(subject: Subject) -> None:
    for sample in samples(subject.name):
        on_meta = moved(sample.arguments, "meta")
        assert subject.operator(*on_meta).shape == meaning(subject.name, sample).shape


@pytest.mark.parametrize(("subject", "sample"), PLAINEST)
def test_gradients_are_those_of_finite_differences(subject: Subject, sample: Sample) -> None:
    x, weight, words, *rest = sample.arguments
    few = (x[..., :2, :, :, :] if x.dim() > 3 else x[..., :2, :]).clone().requires_grad_()
    weight = weight.clone().requires_grad_()

    def call(x: Tensor, weight: Tensor) -> Any:
        return subject.function(x, weight, words, *rest, backend="torch")

    assert torch.autograd.gradcheck(call, (few, weight), fast_mode=True)


@pytest.mark.parametrize("subject", BY_OPERATOR)
def test_straight_through_gives_the_gradient_of_the_effective_weight(subject: Subject) -> None:
    for sample in samples(subject.name, torch.float64):
        x, weight, words, *rest = sample.arguments
        if not words.shape[0] * weight.numel() * x.numel():
            continue
        candidates = words.shape[0]
        mask = unpack(words, weight[0].numel()).reshape(candidates, *weight.shape)
        upstream = torch.randn(meaning(subject.name, sample).shape, dtype=torch.float64)
        # Each candidate's effective weight as a leaf of its own, in a convolution or product that torch knows.
        effective = (weight * mask).requires_grad_()
        everything = torch.full_like(words[:1], -1)
        shared = x.dim() == weight.dim()
        for p in range(candidates):
            out = reference(subject.name)(x if shared else x[p], effective[p], everything, *rest)
            out.backward(upstream[p : p + 1])
        assert effective.grad is not None
        for straight_through, expected in ((True, effective.grad.sum(0)), (False, (effective.grad * mask).sum(0))):
            leaf = weight.clone().requires_grad_()
            subject.function(x, leaf, words, *rest, straight_through=straight_through).backward(upstream)
            torch.testing.assert_close(leaf.grad, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("subject", BY_OPERATOR)
def test_gradients_of_empty_calls_are_zeros_of_the_right_shape(subject: Subject) -> None:
    checked = 0
    for sample in samples(subject.name):
        x, weight, words, *rest = sample.arguments
        if words.shape[0] * weight.numel() * x.numel():
            continue
        x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
        subject.function(x, weight, words, *rest, backend="torch").sum().backward()
        for leaf in (x, weight):
            torch.testing.assert_close(leaf.grad, torch.zeros_like(leaf), rtol=0, atol=0)
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("dims", AXES, ids=str)
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("subject", BY_OPERATOR)
def test_vmap_equals_the_loop(subject: Subject, own: bool, dims: tuple[int | None, ...]) -> None:
    x, weight, words, *rest = samples(subject.name)[int(own)].arguments
    batched = [t if dim is None else torch.stack([t, t.flip(0), t.roll(1, 0)], dim)
               for t, dim in zip((x, weight, words), dims, strict=True)]

    def call(x: Tensor, weight: Tensor, words: Tensor) -> Any:
        return subject.function(x, weight, words, *rest)

    mapped = torch.vmap(call, in_dims=dims)(*batched)
    looped = [call(*(t if dim is None else t.select(dim, i) for t, dim in zip(batched, dims, strict=True)))
              for i in range(3)]
    assert torch.equal(mapped, torch.stack(looped))


@pytest.mark.parametrize("subject", BY_OPERATOR)
def test_gradients_come_back_through_vmap(subject: Subject) -> None:
    x, weight, words, *rest = samples(subject.name, torch.float64)[0].arguments
    many = torch.stack([words, words.flip(0), words.roll(1, 1)])

    def call(x: Tensor, weight: Tensor, words: Tensor) -> Any:
        return subject.function(x, weight, words, *rest)

    grads = []
    for results in (lambda x, w: torch.vmap(call, in_dims=(None, None, 0))(x, w, many),
                    lambda x, w: torch.stack([call(x, w, words) for words in many])):
        pair = [t.clone().requires_grad_() for t in (x, weight)]
        results(*pair).square().sum().backward()
        grads.append([t.grad for t in pair])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler imports what torch deprecates
@pytest.mark.parametrize("subject", BY_OPERATOR)
def test_compile_takes_it_whole(subject: Subject) -> None:
    x, weight, words, *rest = samples(subject.name)[0].arguments

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return torch.as_tensor(subject.function(x * 2, weight, words, *rest).relu().sum())

    grads = []
    for call in (loss, torch.compile(loss, fullgraph=True)):
        leaves_ = [t.clone().requires_grad_() for t in (x, weight)]
        call(*leaves_).backward()
        grads.append([leaf.grad for leaf in leaves_])
    torch.testing.assert_close(grads[1], grads[0])
