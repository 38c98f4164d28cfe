"""`refit`: change the kept weights without training, from calibration data."""

from __future__ import annotations

from copy import deepcopy

from torch import nn

from optprune_fast.engine.batches import Batch, Data, split
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message
from optprune_fast.tuning.finetune import parts
from optprune_fast.tuning.gauss_newton import refit_gauss_newton
from optprune_fast.tuning.jitter import Jittered
from optprune_fast.tuning.layers import refit_layers
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.support import Support

METHODS = ("layers", "gauss_newton")


def refit(model: nn.Module, mask: PackedMasks, data: Data, *, method: str = "layers", samples: int = 16_000,
          refreshes: int = 15, steps: int = 20, damping: float | None = None, noise: float = 0.0,
          distill: float = 0.0, include_biases: bool = False,
          seed: int = 0, validation: Data | None = None, objective: str | UserObjective = "cross_entropy",
          progress: bool | None = None) -> nn.Module:
    """A copy of a model with its kept weights refitted and its pruned weights zero.

    model:           any `nn.Module`; it is never changed
    mask:            one mask of the model's layout
    data:            as `Evaluator` takes them
    method:          "layers": each Linear or convolutional layer, given the pruned network's activations, comes as
                     close as it can to what the dense layer gave, by least squares; no targets needed [1]
                     "gauss_newton": damped Gauss-Newton steps on the loss itself [2]
    samples:         of `data` at most, a seeded choice
    refreshes:       "gauss_newton": outer steps at most, each with a gradient of its own
    steps:           "gauss_newton": of conjugate gradients in an outer step, at most
    damping:         pulls towards the weights as they are, as a share of the mean curvature; None is 1e-4 for "layers"
                     and, at first, 1e-1 for "gauss_newton", which adapts it
    noise:           "gauss_newton": on the inputs, new in each outer step, as a share of their standard deviation; it
                     helps where samples are few
    distill:         "gauss_newton": share of the target that is the unpruned network's own answer, with cross-entropy
    include_biases:  change biases, too, and with "gauss_newton" every other parameter of one dimension
    validation:      "gauss_newton": data to select the best step by; None holds out a seeded 10 % of `data`
    objective:       "gauss_newton": as `finetune` takes it
    progress:        "gauss_newton": True, False, or None: a bar on a terminal and silence elsewhere
    returns:         the copy, in eval mode

    Raises `ValueError` for wrong arguments, and with "layers" for a mask of weights that are tied or of other modules.

    [1] As in Dong, Chen, Pan: Learning to prune deep neural networks via layer-wise optimal brain surgeon, NeurIPS
    2017.  [2] Schraudolph 2002, Marquardt 1963, Martens 2010; see `tuning/gauss_newton.py`.

    >>> import torch, optprune_fast as opf
    >>> torch.manual_seed(0); model = nn.Linear(16, 4)  # doctest: +ELLIPSIS
    <torch...>
    >>> x = torch.randn(200, 16) @ torch.randn(16, 16)
    >>> mask = opf.magnitude(model, 0.5).mask
    >>> refitted = refit(model, mask, (x, None))
    >>> int(refitted.weight.count_nonzero())
    32
    """
    if method not in METHODS:
        raise ValueError(message("refit", f"method must be one of {', '.join(METHODS)}", method=method))
    check("refit", samples=samples, refreshes=refreshes, steps=steps, damping=damping, noise=noise, distill=distill)
    support = Support("refit", model, mask)
    support.model.eval()
    if method == "layers":
        batches = some(parts(data, data, seed)[0], samples, seed)
        refit_layers(support, deepcopy(model).eval(), batches, 1e-4 if damping is None else damping, include_biases)
        return support.model
    batches, selection = parts(data, validation, seed)
    batches = some(batches, samples, seed)
    judge = Loss("refit", model, [*batches, *selection], objective)
    loss = Loss("refit", model, batches, objective, distill)
    names = list(support.weights)
    if include_biases:
        names += [name for name, p in support.model.named_parameters() if p.dim() == 1 and name not in names]
    refit_gauss_newton(support, loss, Jittered(batches, loss.device, noise, seed),
                       lambda: judge.judge(support.model, selection), names, refreshes,
                       0.1 if damping is None else damping, steps, progress)
    return support.model


def check(where: str, *, samples: int, refreshes: int, steps: int, damping: float | None, noise: float,
          distill: float | None) -> None:
    """Raise `ValueError` for numbers that no refit could do with."""
    if samples < 1 or refreshes < 1 or steps < 1:
        raise ValueError(message(where, "samples, refreshes and steps must be at least 1", samples=samples,
                                 refreshes=refreshes, steps=steps))
    for name, value in (("damping", damping), ("noise", noise)):
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError(message(where, f"{name} must be at least 0", **{name: value}))
    if distill is not None and not 0 <= distill <= 1:
        raise ValueError(message(where, "distill must lie in [0, 1]: a share of the target", distill=distill))


def some(batches: list[Batch], samples: int, seed: int) -> list[Batch]:
    """A seeded choice of at most so many samples."""
    total = sum(batch.size for batch in batches)
    return batches if total <= samples else split(batches, samples / total, seed)[1]
