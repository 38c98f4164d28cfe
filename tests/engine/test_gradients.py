"""Gradients are those of autograd, one backward pass a sample, whichever way they are taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

import optprune_fast as opf
from optprune_fast.engine.gradients_layers import add_layer_by_layer
from optprune_fast.engine.gradients_proof import proof_of
from optprune_fast.engine.gradients_sums import Problem, Sums
from optprune_fast.models import MLP
from optprune_fast.testing.tolerance import assert_as_accurate

Objective = Callable[[Tensor, Tensor], Tensor]


def entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def by_autograd(model: nn.Module, data: tuple[Tensor, Tensor], mask: opf.PackedMasks, dtype: torch.dtype,
                objective: Objective = entropy) -> dict[str, tuple[Tensor, Tensor]]:
    """{name: (g, F)}: means of the gradients, and of their squares, of one sample after another."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    state = {k: v.detach().to(dtype) if v.is_floating_point() else v for k, v in tensors}
    weights = {name: (state[name] * bits[0]).requires_grad_() for name, bits in mask.to_dense().items()}
    each = []
    for i in range(len(data[0])):
        out = functional_call(model, {**state, **weights}, (data[0][i:i + 1].to(dtype),))
        loss = objective(out, data[1][i:i + 1]).sum()
        each.append(torch.autograd.grad(loss, list(weights.values()), materialize_grads=True))
    stacks = [torch.stack(grads) for grads in zip(*each, strict=True)]
    return {name: (s.mean(0), s.square().mean(0)) for name, s in zip(weights, stacks, strict=True)}


def check(model: nn.Module, data: tuple[Tensor, Tensor], *, layer_by_layer: bool, objective: Objective = entropy,
          memory: int | None = None) -> None:
    """The gradients are right, and were taken the expected way."""
    ev = opf.Evaluator(model, data, objective, backend="torch", memory=memory)
    mask = opf.random_masks(ev.layout, (ev.layout.n + 1) // 2, [3])
    ours = ev.gradients(mask)
    assert proof_of(ev._forward, ev.objective, next(iter(ev.batches)), ev.memory).holds == layer_by_layer
    same = by_autograd(model, data, mask, torch.float32, objective)
    exact = by_autograd(model, data, mask, torch.float64, objective)
    assert list(ours) == list(mask.to_dense())
    assert any(bool((g[~mask.to_dense()[layer][0]] != 0).any()) for layer, (g, _) in ours.items())
    # A layer's gradient is made of what comes through the others, so the largest of the network sets the scale.
    scale = [max(float(pair[i].abs().max()) for pair in exact.values()) for i in range(2)]
    for layer, pair in ours.items():
        for mine, theirs, true, magnitude in zip(pair, same[layer], exact[layer], scale, strict=True):
            assert_as_accurate(mine, theirs, true, terms=500, magnitude=magnitude)


class Net(nn.Module):
    """Modules, and what is done with them."""

    def __init__(self, run: Callable[[Net, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())


def tied() -> nn.Module:
    net = Net(lambda m, x: m.a(m.b(x).relu())[:, :3], a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    net.a.weight = net.b.weight
    return net


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "sequence": (lambda: Net(lambda m, x: m.b(m.a(x).relu()).mean(1), a=nn.Linear(4, 5), b=nn.Linear(5, 3)), (7, 4)),
    "four dimensions": (lambda: Net(lambda m, x: m.a(x).mean((1, 2)), a=nn.Linear(4, 3)), (2, 5, 4)),
    "strided": (lambda: conv(nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 2)), nn.ReLU(), nn.Conv2d(4, 3, 2)),
                (2, 9, 7)),
    "dilated": (lambda: conv(nn.Conv2d(2, 3, (3, 2), dilation=(2, 3), padding=1)), (2, 9, 7)),
    "grouped": (lambda: conv(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 3, 1, groups=3)), (4, 6, 5)),
    "depthwise": (lambda: conv(nn.Conv2d(3, 6, 3, groups=3, padding="same", dilation=2)), (3, 6, 5)),
    "even same": (lambda: conv(nn.Conv2d(2, 3, (2, 4), padding="same")), (2, 6, 5)),
    "circular": (lambda: conv(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")), (2, 6, 5)),
    "one place": (lambda: nn.Sequential(nn.Conv2d(4, 6, (5, 4), groups=2), nn.Flatten()), (4, 5, 4)),
    "one dimension": (lambda: conv(nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), nn.ReLU(),
                                   nn.Conv1d(6, 3, 2, padding="valid")), (4, 11)),
    "channels last": (lambda: conv(nn.Conv2d(3, 4, 3, padding=1)).to(memory_format=torch.channels_last), (3, 6, 5)),
    "changed in place": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), (4,)),
    "tied": (tied, (6,)),
    "used twice": (lambda: Net(lambda m, x: m.b(m.a(m.a(x).relu())), a=nn.Linear(5, 5), b=nn.Linear(5, 3)), (5,)),
    "convolution used twice": (lambda: Net(lambda m, x: m.a(m.a(x).relu()).mean((2, 3)), a=nn.Conv2d(3, 3, 3)),
                               (3, 8, 7)),
    "without gradient": (lambda: Net(lambda m, x: m.b(m.a(x)), a=nn.Linear(4, 5), b=nn.Linear(5, 3)), (4,)),
}


def data_for(shape: tuple[int, ...], B: int = 9) -> tuple[Tensor, Tensor]:
    return torch.randn(B, *shape), torch.randint(3, (B,))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_by_layer(name: str, memory: int | None) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    check(make().eval(), data_for(shape), layer_by_layer=True, memory=memory)


def test_networks(case) -> None:
    check(case.model, case.data, layer_by_layer=True)


def seen_by_transpose(net: Net, x: Tensor) -> Tensor:
    return net.a(x.transpose(0, 1)).mean(0)


ISOLATED: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "weight outside a layer": lambda m, x: (x @ m.a.weight.T).mean(1),
    "weight in a layer and outside": lambda m, x: m.a(x).mean(1) + m.a.weight.square().sum(),
    "samples mix": lambda m, x: m.a(x + x.mean(0)).mean(1),
    "samples mix behind the layer": lambda m, x: m.a(x).mean(1).cumsum(0),
    "samples second": seen_by_transpose,
    "samples and positions are one": lambda m, x: m.a(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1),
}


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("T", [2, 3, 9])  # as many positions as samples, too
@pytest.mark.parametrize("name", ISOLATED)
def test_isolated_where_samples_could_mix(name: str, T: int, memory: int | None) -> None:
    torch.manual_seed(0)
    check(Net(ISOLATED[name], a=nn.Linear(4, 3)), data_for((T, 4)), layer_by_layer=False, memory=memory)


def test_isolated_where_the_objective_mixes_samples() -> None:
    torch.manual_seed(0)

    def scaled(outputs: Tensor, targets: Tensor) -> Tensor:
        return entropy(outputs, targets) / (1 + outputs.square().sum(1).max().detach())

    check(MLP([4, 5, 3]), data_for((4,)), layer_by_layer=False, objective=scaled)


def test_a_use_outside_a_layer_adds_nothing() -> None:
    ev = opf.Evaluator(Net(ISOLATED["weight in a layer and outside"], a=nn.Linear(4, 3)), data_for((2, 4)))
    sums = Sums.zeros(ev.weights)
    assert not add_layer_by_layer(Problem(ev._forward, ev.objective, ev.weights, 1 << 20), next(iter(ev.batches)), sums)
    assert not any(total.any() for total in (*sums.first.values(), *sums.second.values()))


def test_an_objective_of_steps_has_no_gradient() -> None:
    ev = opf.Evaluator(MLP([4, 5, 3]), data_for((4,)), "error")
    for g, f in ev.gradients(opf.PackedMasks.full(ev.layout)).values():
        assert not g.any()
        assert not f.any()


def test_half_precision_is_summed_in_single() -> None:
    """A sum of 600 squares in bfloat16, which has three digits, would stop growing."""
    torch.manual_seed(0)
    data = (torch.randn(600, 4).bfloat16(), torch.zeros(600).long())
    ev = opf.Evaluator(nn.Linear(4, 3).to(torch.bfloat16), data, memory=1)  # one sample after another
    (g, f), = ev.gradients(opf.PackedMasks.full(ev.layout)).values()
    wide = nn.Linear(4, 3)
    wide.load_state_dict({k: v.float() for k, v in ev._forward.state.items()})
    (true, square), = opf.Evaluator(wide, (data[0].float(), data[1])).gradients(
        opf.PackedMasks.full(ev.layout)).values()
    assert g.dtype == f.dtype == torch.bfloat16
    torch.testing.assert_close(g.float(), true, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(f.float(), square, rtol=0.02, atol=1e-3)


def test_memory_is_a_small_multiple_of_the_weights() -> None:
    """Gradients of 2,000 samples would be 2,000 times the weights, and what fits of them at once 32 times."""
    ev = opf.Evaluator(MLP([784, 300, 100, 10]), (torch.randn(2000, 784), torch.randint(10, (2000,))))
    mask = opf.PackedMasks.full(ev.layout)
    ev.gradients(mask)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        ev.gradients(mask)
    live = peak = 0
    for event in sorted(seen.events(), key=lambda e: e.time_range.start):
        live += event.self_cpu_memory_usage
        peak = max(peak, live)
    weights = sum(weight.nbytes for weight in ev.weights.values())
    assert 5 * weights < peak < 16 * weights


@pytest.mark.parametrize("objective", ["kl_to_dense", "mse_to_dense"])
def test_objectives_that_compare_with_the_unpruned_network_go_layer_by_layer(mlp, objective: str) -> None:
    ev = opf.Evaluator(mlp.model, mlp.data, objective)
    ev.gradients(mlp.masks(1))
    assert proof_of(ev._forward, ev.objective, next(iter(ev.batches)), ev.memory).holds
