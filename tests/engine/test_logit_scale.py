"""Logits times a number, before the loss is taken: the same on every way that an evaluator goes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import optprune_fast as opf
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import swap

SCALE = 3.7
NETS = {
    "linear": lambda: nn.Sequential(nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, 4)),
    "no bias": lambda: nn.Sequential(nn.Linear(9, 12, bias=False), nn.ReLU(), nn.Linear(12, 4, bias=False)),
    "normalised": lambda: nn.Sequential(nn.Linear(9, 12), nn.Tanh(), nn.Linear(12, 4), nn.BatchNorm1d(4)),
    "not linear": lambda: nn.Sequential(nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, 4), nn.LogSoftmax(1)),
}


@pytest.fixture(params=NETS)
def net(request):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = NETS[request.param]().eval()
        for module in made:
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 2.0)
        return made


@pytest.fixture
def data():
    made = torch.Generator().manual_seed(4)
    return torch.randn(70, 9, generator=made), torch.randint(4, (70,), generator=made)


def wanted(net, data, masks):
    """float64 [P]"""
    wide, losses = nn.Sequential(*net).double(), []
    flags = masks.to_dense()
    state = dict(wide.named_parameters())
    for p in range(len(masks)):
        pruned = {name: state[name] * flags[name][p] for name in flags}
        outputs = torch.func.functional_call(wide, pruned, (data[0].double(),))
        losses.append(F.cross_entropy(SCALE * outputs, data[1]))
    net.float()
    return torch.stack(losses)


@pytest.mark.parametrize("how", [{"backend": "native"}, {"backend": "numba"}, {"backend": "torch"},
                                 {"backend": "native", "plan": False}])
def test_every_way_scales(net, data, how):
    ev = Evaluator(net, data, **how)
    masks = opf.random_masks(ev.layout, ev.layout.budget(0.5), seeds=range(5))
    right = wanted(net, data, masks)
    for scaled in (ev.scaled(SCALE), Evaluator(net, data, logit_scale=SCALE, **how), ev.scaled(9.0).scaled(SCALE)):
        assert torch.allclose(scaled(masks).double(), right, rtol=2e-5, atol=0)
        assert torch.allclose(scaled.metrics(masks)["accuracy"], ev.metrics(masks)["accuracy"], rtol=0, atol=0)
        assert torch.allclose(scaled.outputs(masks), SCALE * ev.outputs(masks), rtol=1e-5, atol=1e-6)
        assert scaled.logit_scale == SCALE
    assert not torch.allclose(ev(masks).double(), right, rtol=1e-2)
    assert ev.logit_scale == 1


def test_moves_and_gradients_scale(net, data):
    ev = Evaluator(net, data, backend="native").scaled(SCALE)
    parent = opf.magnitude(net, 0.5, layout=ev.layout).mask
    on, off = (flags.nonzero().flatten()[:6] for flags in (parent.flat()[0], ~parent.flat()[0]))
    moves = torch.stack([on, off], 1)
    assert torch.allclose(ev.moves(parent, moves).double(), wanted(net, data, swap(parent, moves)), rtol=2e-5, atol=0)

    weights = {name: (weight * parent.to_dense()[name][0]).detach().requires_grad_()
               for name, weight in ev.layout.weights_of(net).items()}
    loss = F.cross_entropy(SCALE * torch.func.functional_call(net, weights, (data[0],)), data[1])
    right = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    for found in ({name: pair[0] for name, pair in ev.gradients(parent).items()},
                  ev.mean_gradients(parent, torch.arange(70))):
        assert all(torch.allclose(found[name], right[name], rtol=1e-3, atol=1e-5) for name in right)


@pytest.mark.parametrize(("given", "text"), [
    ({"logit_scale": 0.0}, "logit_scale must be above 0"),
    ({"logit_scale": float("nan")}, "logit_scale must be above 0"),
    ({"logit_scale": 2.0, "objective": "kl_to_dense"}, "logit_scale is for cross_entropy"),
    ({"logit_scale": 2.0, "objective": F.cross_entropy}, "logit_scale is for cross_entropy"),
])
def test_wrong_scales(data, given, text):
    with pytest.raises(ValueError, match=text):
        Evaluator(NETS["linear"](), data, **given)
