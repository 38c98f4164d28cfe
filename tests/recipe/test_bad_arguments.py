"""Wrong arguments of `prune` are errors that name the argument and the rule, before any work."""

import copy

import pytest
import torch

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.models import MLP
from optprune_fast.recipe.prune import prune
from optprune_fast.recipe.sweep import sweep
from optprune_fast.runtime.errors import BackendError

NAN = float("nan")


class Untouched:
    """Data that must not be read."""

    def __iter__(self):
        raise AssertionError("the data were read before the arguments were checked")


@pytest.mark.parametrize(("arguments", "text"), [
    ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\).*\n  sparsity  1.0"),
    ({"sparsity": -0.1}, r"sparsity must lie in \[0, 1\)"),
    ({"sparsity": NAN}, r"sparsity must lie in \[0, 1\)"),
    ({"sparsity": 0.9999}, "no weight of 480 would be kept\n  sparsity  0.9999\nchoose a lower sparsity"),
    ({"small": -0.01}, r"prune: small must lie in \[0, 1\].*\n  small  -0.01"),
    ({"small": 1.01}, r"prune: small must lie in \[0, 1\]"),
    ({"small": NAN}, r"prune: small must lie in \[0, 1\]"),
    ({"pool": -0.01}, r"prune: pool must lie in \[0, 1\].*\n  pool  -0.01"),
    ({"pool": 1.01}, r"prune: pool must lie in \[0, 1\]"),
    ({"evaluations": 0}, "prune: evaluations must be at least 1\n  evaluations  0"),
    ({"time_limit": 0}, "prune: time_limit must be more than 0 seconds\n  time_limit  0"),
    ({"time_limit": -1}, "prune: time_limit must be more than 0 seconds"),
    ({"strategy": "tabu"}, "strategy: one of auto, .*, swap, .*or a Strategy of your own\n  strategy  'tabu'"),
    ({"precision": "half"}, "prune: precision must be one of fp32, tf32x3, tf32, fp16, bf16\n  precision  'half'"),
    ({"backend": "abacus"}, "backend must be one of auto, .*, not 'abacus'"),
])
def test_a_wrong_argument_is_an_error_before_the_data_are_read(network, arguments, text):
    with pytest.raises(ValueError, match=text):
        prune(network, Untouched(), **arguments)


def test_the_check_that_data_stay_unread_would_notice(network):
    with pytest.raises(AssertionError, match="the data were read"):
        prune(network, Untouched())


def test_an_unknown_objective_is_an_error_that_lists_the_known(network, samples):
    with pytest.raises(ValueError, match=r"unknown objective\n  objective  'accuracy'\none of cross_entropy, error"):
        prune(network, samples, objective="accuracy")


def test_an_objective_of_the_wrong_shape_is_an_error(network, samples):
    with pytest.raises(ValueError, match="must give one number a sample, or one number for all"):
        prune(network, samples, objective=lambda outputs, targets: outputs[:, 0].new_zeros(7))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a GPU is: the backend can run")
def test_a_backend_that_cannot_run_here_is_an_error(network, samples):
    with pytest.raises(BackendError, match="cuda"):
        prune(network, samples, backend="cuda")


@pytest.mark.parametrize("search", [prune, sweep])
def test_a_precision_that_the_backend_has_no_choice_of_is_an_error(network, samples, search):
    with pytest.raises(BackendError, match=r"backend='torch' cannot serve[\s\S]*has no choice of precision"):
        search(network, samples, backend="torch", precision="tf32")


@pytest.mark.parametrize("data", [[], (torch.empty(0, 16), torch.empty(0, dtype=torch.int64))], ids=["list", "tensors"])
@pytest.mark.parametrize("argument", ["data", "validation"])
def test_empty_data_are_an_error(network, samples, data, argument):
    with pytest.raises(ValueError, match="data: there must be at least one sample"):
        prune(network, **{"data": samples, argument: data})


@pytest.mark.parametrize("number", [1, 4])
def test_data_too_few_to_split_need_validation_data(network, samples, number):
    few = samples[0][:number], samples[1][:number]
    with pytest.raises(ValueError, match=rf"0.1 of {number} samples leaves one side empty\n.*\npass validation="):
        prune(network, few, evaluations=10)
    assert prune(network, few, 0.9, evaluations=10, validation=samples).evaluations == 10


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_an_error_that_names_the_layer(network, samples, value):
    model, calls = copy.deepcopy(network), []
    with torch.no_grad():
        model.layers[1].weight[2, 3] = value
    model.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=r"weights must be finite\n  layer  'layers.1.weight'"):
        prune(model, samples)
    assert calls == []


def test_nan_among_the_data_is_an_error(network, samples):
    inputs = samples[0].clone()
    inputs[3, 3] = NAN
    with pytest.raises(ValueError, match="inputs and targets must not hold NaN"):
        prune(network, (inputs, samples[1]))


@pytest.mark.parametrize("target", [-1, 4])
def test_a_target_that_the_outputs_lack_is_an_error(network, samples, target):
    targets = samples[1].clone()
    targets[-1] = target
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 4\)"):
        prune(network, (samples[0], targets))


def test_a_layout_of_another_model_is_an_error(network, samples):
    layout = MaskLayout.of(MLP([16, 25, 4]))
    with pytest.raises(ValueError, match="the model does not have this layout's parameters"):
        prune(network, samples, layout=layout)


def test_a_model_without_prunable_weights_is_an_error(samples):
    with pytest.raises(ValueError, match="nothing to prune is left"):
        prune(torch.nn.LayerNorm(16), samples)
