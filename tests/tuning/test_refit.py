"""`refit` against solvers that know the whole matrix, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import optprune_fast as opf
from optprune_fast.engine.batches import collect
from optprune_fast.runtime.errors import TuningWarning
from optprune_fast.tuning.gauss_newton import refit_gauss_newton
from optprune_fast.tuning.jitter import Jittered
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.pcg import pcg
from optprune_fast.tuning.refit import refit
from optprune_fast.tuning.support import Support


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def made(module, seed=0):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in module.parameters():
            parameter.normal_()
    return module.double().eval()


def correlated(inputs, seed):
    """Inputs that depend on each other, or there would be nothing to make up for."""
    return inputs + 0.8 * inputs.roll(1, 1) + 0.1 * draw(*inputs.shape, seed=seed)


def on_support(columns, wanted, kept):
    """The least squares of each row over the columns that it keeps."""
    out = torch.zeros(kept.shape, dtype=torch.float64)
    for row, flags in enumerate(kept):
        out[row, flags] = torch.linalg.lstsq(columns[:, flags], wanted[:, row:row + 1]).solution[:, 0]
    return out


def test_pcg_solves_rows_side_by_side():
    a = draw(3, 6, 6)
    a = a @ a.transpose(1, 2) + torch.eye(6)
    right = draw(3, 6, seed=1)
    right[2] = 0
    x, applied = pcg(lambda row: (a @ row.unsqueeze(2)).squeeze(2), right, a.diagonal(dim1=1, dim2=2), 50, 1e-12)
    assert torch.allclose(x, torch.linalg.solve(a, right), rtol=0, atol=1e-9)
    assert torch.allclose(applied, right, rtol=0, atol=1e-9)


@pytest.mark.parametrize("include_biases", [False, True])
def test_a_linear_layer_is_least_squares_on_its_support(include_biases):
    model, inputs = made(nn.Linear(12, 5)), correlated(draw(80, 12, seed=2) + 0.5, 3)
    mask = opf.magnitude(model, 0.6).mask
    kept = mask.to_dense()["weight"][0]
    got = refit(model, mask, (inputs, None), damping=0.0, include_biases=include_biases)
    if include_biases:
        columns = torch.cat([inputs, torch.ones(80, 1)], 1)
        wanted = on_support(columns, model(inputs), torch.cat([kept, torch.ones(5, 1, dtype=torch.bool)], 1))
        assert torch.allclose(got.bias, wanted[:, 12], rtol=0, atol=1e-7)
    else:
        wanted = on_support(inputs, model(inputs) - model.bias, kept)
        assert torch.equal(got.bias, model.bias)
    assert torch.allclose(got.weight, wanted[:, :12], rtol=0, atol=1e-7)
    assert not got.weight[~kept].any()


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.Conv2d(4, 6, (2, 3), stride=2, padding=1, groups=2), (20, 4, 7, 6)),
    (nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2), (20, 4, 9)),
])
def test_a_grouped_convolution_is_least_squares_on_its_support(layer, shape):
    model, inputs = made(layer), correlated(draw(*shape, seed=4), 5)
    mask = opf.magnitude(model, 0.5).mask
    got = refit(model, mask, (inputs, None), damping=0.0)
    kept, wanted = mask.to_dense()["weight"][0], model(inputs)
    for row in range(6):  # the matrix of a row, column by column: what one weight alone gives
        units = []
        for place in kept[row].nonzero():
            one = torch.zeros_like(model.weight)
            one[(row, *place.tolist())] = 1
            units.append(model._conv_forward(inputs, one, None)[:, row].flatten())
        target = (wanted[:, row] - model.bias[row]).flatten().unsqueeze(1)
        solution = torch.linalg.lstsq(torch.stack(units, 1), target).solution[:, 0]
        assert torch.allclose(got.weight[row][kept[row]], solution, rtol=0, atol=1e-7)
    assert not got.weight[~kept].any()


def test_later_layers_make_up_for_earlier_ones():
    model = made(nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)))
    inputs = correlated(draw(200, 12, seed=6), 7)
    mask = opf.magnitude(model, 0.5).mask
    got = refit(model, mask, (inputs, None), damping=0.0)
    hidden, kept = got[:2](inputs), mask.to_dense()["2.weight"][0]
    wanted = on_support(hidden, model(inputs) - model[2].bias, kept)
    assert torch.allclose(got[2].weight, wanted, rtol=0, atol=1e-6)


def test_damping_holds_the_weights_where_they_are():
    model, inputs = made(nn.Linear(12, 5)), correlated(draw(80, 12, seed=2), 3)
    mask = opf.magnitude(model, 0.6).mask
    start, free, held = Support("", model, mask).model.weight, *(
        refit(model, mask, (inputs, None), damping=damping).weight for damping in (0.0, 1e6))
    assert (held - start).abs().max() < 1e-3 < (free - start).abs().max()


# ---- Gauss-Newton


def test_gauss_newton_on_a_linear_model_is_least_squares_in_one_step():
    model, inputs = made(nn.Linear(12, 5)), correlated(draw(80, 12, seed=2), 3)
    mask = opf.magnitude(model, 0.6).mask
    got = refit(model, mask, (inputs, None), method="gauss_newton", objective="mse_to_dense", refreshes=1, steps=200,
                damping=0.0, validation=(inputs, None))
    wanted = on_support(inputs, model(inputs) - model.bias, mask.to_dense()["weight"][0])
    assert torch.allclose(got.weight, wanted, rtol=0, atol=1e-5)


def test_gauss_newton_on_logistic_regression_is_newton():
    """One step against the Hessian that autograd gives."""
    model, inputs = made(nn.Linear(6, 3, bias=False)), draw(200, 6, seed=8)
    with torch.no_grad():
        model.weight.mul_(0.1)
    targets = (inputs @ draw(6, 3, seed=9) + draw(200, 3, seed=10)).argmax(1)
    kept = torch.arange(18).view(3, 6) < 11  # no column in all rows, or the Hessian would be singular
    mask = opf.PackedMasks.from_dense(opf.MaskLayout.of(model), {"weight": kept.unsqueeze(0)})
    start = model.weight.detach()[kept]

    spread = torch.eye(18, dtype=torch.float64)[kept.flatten()]

    def loss(row):
        return F.cross_entropy(inputs @ (row @ spread).view(3, 6).T, targets)

    newton = start - torch.linalg.solve(torch.func.hessian(loss)(start), torch.func.grad(loss)(start))
    got = refit(model, mask, (inputs, targets), method="gauss_newton", refreshes=1, steps=100, damping=0.0,
                validation=(inputs, targets))
    assert torch.allclose(got.weight[kept], newton, rtol=0, atol=1e-5)
    many = refit(model, mask, (inputs, targets), method="gauss_newton", steps=100, validation=(inputs, targets))
    assert torch.func.grad(loss)(many.weight.detach()[kept]).abs().max() < 1e-5


def test_gauss_newton_takes_any_network_and_repeats(everything, pictures):
    mask = opf.magnitude(everything, 0.6).mask
    runs = [refit(everything, mask, pictures, method="gauss_newton", refreshes=3, validation=pictures,
                  include_biases=biases) for biases in (False, False, True)]
    old, *new = (F.cross_entropy(model(pictures[0]), pictures[1]).item()
                 for model in (Support("", everything, mask).model, *runs))
    assert max(new) < 0.9 * old
    assert all(torch.equal(a, b) for a, b in zip(runs[0].parameters(), runs[1].parameters(), strict=True))
    for model, moves in zip(runs, (False, False, True), strict=True):
        assert torch.equal(model.norm.bias, everything.norm.bias) != moves
        assert model.first.weight is model.second.weight
        assert all(not mask.layout.weights_of(model)[name][~bits[0]].any() for name, bits in mask.to_dense().items())


def test_the_mean_of_the_states_competes_and_the_next_step_starts_from_the_last_state():
    model = made(nn.Linear(6, 3))
    support = Support("", model, opf.magnitude(model, 0.5).mask)
    batches = collect((correlated(draw(80, 6), 1), torch.arange(80) % 3))
    judged = []

    def judge():  # later is better, so the last mean is
        judged.append(support.model.weight.detach().clone())
        return -len(judged)

    refit_gauss_newton(support, Loss("", model, batches, "cross_entropy"),
                       Jittered(batches, torch.device("cpu"), 0.5, seed=1), judge, ["weight"], refreshes=4, damping=0.1,
                       steps=20, progress=False)
    states, means = judged[1::2], judged[2::2]
    assert len(states) == len(means) > 1
    for count, mean in enumerate(means, 1):
        torch.testing.assert_close(mean, torch.stack(states[:count]).mean(0))
    assert not torch.equal(means[-1], states[-1])
    assert torch.equal(support.model.weight, means[-1])


def test_a_gradient_that_is_no_number_stops_it_and_is_said():
    model = made(nn.Linear(6, 3))
    mask = opf.magnitude(model, 0.5).mask
    with pytest.warns(TuningWarning, match=r"refit: the gradient is not finite.*best so far"):
        got = refit(model, mask, (draw(50, 6), None), method="gauss_newton",
                    objective=lambda outputs, targets: (outputs - outputs.detach()).abs().sqrt().sum(1))
    assert torch.equal(got.weight, Support("", model, mask).model.weight)


# ---- errors teach


@pytest.mark.parametrize(("changed", "text"), [
    ({"method": "wish"}, "one of layers, gauss_newton"),
    ({"samples": 0}, "samples, refreshes and steps must be at least 1"),
    ({"refreshes": 0}, "samples, refreshes and steps must be at least 1"),
    ({"damping": -1.0}, "damping must be at least 0"),
    ({}, r"(?s)are not tied.*takes every weight"),
])
def test_wrong_arguments(everything, pictures, changed, text):
    with pytest.raises(ValueError, match=text):
        refit(everything, opf.magnitude(everything, 0.5).mask, pictures, **changed)


def test_a_padding_that_least_squares_do_not_know():
    model = made(nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"))
    with pytest.raises(ValueError, match="padded by a number of zeros"):
        refit(model, opf.magnitude(model, 0.5).mask, (draw(4, 2, 5), None))
