"""Damped Gauss-Newton steps on the loss itself, over the kept weights.

With J the derivative of the outputs by the parameters, and H the second derivative of a sample's loss by its outputs
(of cross-entropy: diag(p) - p pᵀ), the loss is close to  L + g·d + ½ d (Jᵀ H J) d  [1]. J is never formed: a product
is one pass forwards (jvp) and one backwards (vjp) over the samples. Each outer step solves for d with damping λ by
conjugate gradients, takes it only where the loss falls, and adapts λ to how well the fall was foretold [2, 3].

[1] Schraudolph: Fast curvature matrix-vector products, Neural Computation 14 (2002).
[2] Marquardt: An algorithm for least-squares estimation of nonlinear parameters, SIAM J. Appl. Math. 11 (1963).
[3] Martens: Deep learning via Hessian-free optimization, ICML 2010.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vjp
from tqdm import tqdm  # type: ignore[import-untyped]

from optprune_fast.engine.batches import Batch
from optprune_fast.runtime.errors import TuningWarning
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.pcg import pcg
from optprune_fast.tuning.support import Support

CHUNK, GROUP = 4000, 250  # samples of one product, and of one squared gradient
TRIES = 4  # dampings of one outer step
GROW, SHRINK = 4.0, 0.25
FORETOLD_WELL, FORETOLD_BADLY = 0.75, 0.25


class Kept:
    """The parameters that may change, as one float64 row of numbers; pruned weights are not among them."""

    def __init__(self, support: Support, names: list[str]) -> None:
        self.support = support
        self.parameters = {name: dict(support.model.named_parameters())[name] for name in names}
        self.places = {name: (~support.pruned[name] if name in support.pruned else
                              torch.ones_like(p, dtype=torch.bool)) for name, p in self.parameters.items()}

    def read(self) -> Tensor:
        return self.row({name: parameter.detach() for name, parameter in self.parameters.items()})

    def write(self, row: Tensor) -> None:
        with torch.no_grad():
            for name, tensor in self.spread(row).items():
                self.parameters[name].copy_(tensor)

    def spread(self, row: Tensor) -> dict[str, Tensor]:
        """One tensor a parameter, zero where it is pruned."""
        out, start = {}, 0
        for name, place in self.places.items():
            count = int(place.sum())
            tensor = torch.zeros_like(self.parameters[name])
            tensor[place] = row[start:start + count].to(tensor.dtype)
            out[name], start = tensor, start + count
        return out

    def row(self, tensors: dict[str, Tensor]) -> Tensor:
        return torch.cat([tensors[name][place].double() for name, place in self.places.items()])


@torch.no_grad()  # what torch.func differentiates it differentiates in there, too
def refit_gauss_newton(support: Support, loss: Loss, batches: list[Batch], selection: list[Batch], names: list[str],
                       refreshes: int, damping: float, steps: int, progress: bool | None = None) -> None:
    """Change the parameters `names` of `support`, in place; the state that `selection` found best stays.

    refreshes:  outer steps at most; each takes the gradient anew
    damping:    λ at first, as a share of the mean of the curvature's diagonal
    steps:      of conjugate gradients in an outer step
    """
    kept = Kept(support, names)
    chunks = [part.to(loss.device) for batch in batches for part in batch.chunks(CHUNK)]
    samples = sum(chunk.size for chunk in chunks)
    value, best = loss.judge(support.model, chunks), loss.judge(support.model, selection)
    at, best_at = kept.read(), kept.read()
    try:
        for _ in tqdm(range(refreshes), "refit", leave=False, disable=None if progress is None else not progress):
            kept.write(at)
            gradient, square = _gradient(kept, loss, chunks, samples)
            if not bool(gradient.isfinite().all()):
                warnings.warn("refit: the gradient is not finite; it stops there, with the best so far", TuningWarning,
                              stacklevel=3)
                break
            scale = square.mean().clamp_min(torch.finfo(torch.float64).tiny)
            for _ in range(TRIES):
                kept.write(at)
                extra = damping * scale

                def product(row: Tensor, extra: Tensor = extra) -> Tensor:
                    return _curvature(kept, loss, chunks, samples, row[0]).unsqueeze(0) + extra * row

                step, applied = pcg(product, -gradient.unsqueeze(0), (square + extra).unsqueeze(0), steps, 1e-6)
                foretold = float(-(gradient @ step[0]) - 0.5 * (step[0] @ applied[0]))
                kept.write(at + step[0])
                new = loss.judge(support.model, chunks)
                share = (value - new) / foretold if foretold > 0 else -math.inf
                if share > FORETOLD_WELL:
                    damping *= SHRINK
                elif not share > FORETOLD_BADLY:
                    damping *= GROW
                if new < value:
                    break
            if not new < value:
                break  # at a minimum, as far as these numbers show
            at, value = kept.read(), new
            judged = loss.judge(support.model, selection)
            if judged < best:
                best, best_at = judged, at
    except KeyboardInterrupt:
        pass
    kept.write(best_at)


def _outputs(kept: Kept, chunk: Batch) -> Callable[[dict[str, Tensor]], Tensor]:
    def outputs(parameters: dict[str, Tensor]) -> Tensor:
        result: Tensor = functional_call(kept.support.model, parameters, chunk.args, chunk.kwargs)
        return result
    return outputs


def _gradient(kept: Kept, loss: Loss, chunks: list[Batch], samples: int) -> tuple[Tensor, Tensor]:
    """(mean gradient, mean squared gradient by groups of samples), over the kept weights.

    The squares precondition and give damping its scale [3]; for both a rough estimate of the curvature will do.
    """
    point = {name: parameter.detach() for name, parameter in kept.parameters.items()}
    total = square = torch.zeros((), device=loss.device)
    for chunk in chunks:
        for part in chunk.chunks(GROUP):
            outputs, pull = vjp(_outputs(kept, part), point)[:2]
            summed = kept.row(pull(_slope(loss, part)(outputs))[0])
            total, square = total + summed, square + summed.square()
    return total / samples, square / samples


def _slope(loss: Loss, batch: Batch) -> Callable[[Tensor], Tensor]:
    """The derivative of the summed loss by the outputs."""
    slope: Callable[[Tensor], Tensor] = grad(lambda outputs: loss.of_outputs(outputs, batch) * batch.size)
    return slope


def _curvature(kept: Kept, loss: Loss, chunks: list[Batch], samples: int, row: Tensor) -> Tensor:
    """Jᵀ H J times a row, the mean over samples."""
    point = {name: parameter.detach() for name, parameter in kept.parameters.items()}
    along = kept.spread(row)
    total = torch.zeros_like(row)
    for chunk in chunks:
        function = _outputs(kept, chunk)
        outputs, pull = vjp(function, point)[:2]
        with warnings.catch_warnings():  # torch's own: its rules for jvp are scripted when the first one is called
            warnings.filterwarnings("ignore", r".*torch\.jit\.script", DeprecationWarning)
            change = jvp(function, (point,), (along,))[1]
        bent = vjp(_slope(loss, chunk), outputs)[1](change)[0]  # H is symmetric
        total += kept.row(pull(bent)[0])
    return total / samples
