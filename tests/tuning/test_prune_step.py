"""Steps that prune, against solvers that know the whole matrix; noise and mixed targets."""

import torch
import torch.nn.functional as F
from torch import nn

import optprune_fast as opf
from optprune_fast.engine.batches import collect
from optprune_fast.masks.magnitude import select
from optprune_fast.recipe.prune_and_refit import prune_and_refit
from optprune_fast.tuning.jitter import Jittered
from optprune_fast.tuning.kept import Kept
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.prune_step import prune_step
from optprune_fast.tuning.quadratic import Quadratic
from optprune_fast.tuning.support import Support


def test_any_network(everything, pictures):
    """Grouped convolutions, batch normalisation, tied weights; what is not prunable stays."""
    model, mask = prune_and_refit(everything, pictures, 0.6, refreshes=3)
    assert int(mask.count()) == mask.layout.budget(0.6)
    assert all(not mask.layout.weights_of(model)[name][~bits[0]].any() for name, bits in mask.to_dense().items())
    assert model.first.weight is model.second.weight
    assert torch.equal(model.norm.weight, everything.norm.weight)
    assert torch.equal(model.last.bias, everything.last.bias)


def test_one_step_is_the_surgeons():
    """On a quadratic, against a solver that knows the whole matrix: same ranking, same weights."""
    made = torch.Generator().manual_seed(3)
    inputs = torch.randn(150, 7, generator=made, dtype=torch.float64) @ torch.randn(7, 7, generator=made).double()
    model = nn.Linear(7, 3, bias=False).double().requires_grad_()
    layout = opf.MaskLayout.of(model)
    support = Support("", model, opf.PackedMasks.full(layout))
    batches = collect((inputs, None))
    loss = Loss("", model, batches, "mse_to_dense")
    with torch.no_grad():
        near = Quadratic(Kept(support, ["weight"]), loss, batches)
        gradient, squares = torch.zeros(21, dtype=torch.float64), near.slope()[1] + 1.0
        prune_step(support, near, gradient, squares, 8, 0.0, 200)
    rank = (model.weight.detach() * squares.view(3, 7).sqrt())
    assert torch.equal(support.mask.words, select(layout, {"weight": rank}, 8, 0).mask.words)
    flags = support.mask.to_dense()["weight"][0]
    for row in range(3):
        if flags[row].any():
            wanted = (inputs @ model.weight[row].detach()).unsqueeze(1)
            solution = torch.linalg.lstsq(inputs[:, flags[row]], wanted).solution[:, 0]
            assert torch.allclose(support.weights["weight"][row][flags[row]], solution, rtol=0, atol=1e-6)


def test_noise_is_fresh_seeded_and_only_on_what_is_not_whole():
    made = torch.Generator().manual_seed(1)
    floats, whole = 3.0 * torch.randn(400, 5, generator=made) + 7.0, torch.arange(400)
    batches = collect(((floats, whole), None))
    one, other, none = (Jittered(batches, torch.device("cpu"), noise, 4) for noise in (0.5, 0.5, 0.0))
    first, second, same = one.fresh()[0], one.fresh()[0], other.fresh()[0]
    assert torch.equal(first.args[0], same.args[0])
    assert not torch.equal(first.args[0], second.args[0])
    assert torch.equal(first.args[1], whole)
    assert abs(float((first.args[0] - floats).std()) - 1.5) < 0.1
    assert torch.equal(none.fresh()[0].args[0], floats)


def test_distilled_is_cross_entropy_with_mixed_targets(network, samples):
    """The same slopes as with targets of which a share is the unpruned network's answer."""
    support = Support("", network, opf.magnitude(network, 0.8).mask)
    batch = collect(samples)[0]
    weight = next(iter(support.weights.values()))
    got, = torch.autograd.grad(Loss("", network, [batch], "cross_entropy", 0.3)(support.model, batch), weight)
    with torch.no_grad():
        answer = network(samples[0]).softmax(1)
    mixed = 0.7 * F.one_hot(samples[1], answer.shape[1]) + 0.3 * answer
    wanted, = torch.autograd.grad(F.cross_entropy(support.model(samples[0]), mixed), weight)
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-6)
