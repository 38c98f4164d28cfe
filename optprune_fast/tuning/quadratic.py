"""The loss near a point, to second order:  L + g·d + ½ d (Jᵀ H J) d.

J is the derivative of the outputs by the parameters, and H the second derivative of a sample's loss by its outputs (of
cross-entropy: diag(p) - p pᵀ) [1]. J is never formed: a product is one pass forwards (jvp) and one backwards (vjp) over
the samples.

[1] Schraudolph: Fast curvature matrix-vector products, Neural Computation 14 (2002).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from optprune_fast.engine.batches import Batch
from optprune_fast.tuning.kept import Kept
from optprune_fast.tuning.loss import Loss

CHUNK, GROUP = 4000, 250  # samples of one product, and of one squared gradient


class Quadratic:
    """The mean loss of `batches` around the parameters that `kept` has when it is made.

    Methods are called under `torch.no_grad()`: what torch.func differentiates it differentiates in there, too.
    """

    def __init__(self, kept: Kept, loss: Loss, batches: list[Batch]) -> None:
        self.kept, self.loss = kept, loss
        self.chunks = [part for batch in batches for part in batch.chunks(CHUNK)]
        self.samples = sum(chunk.size for chunk in self.chunks)
        self.point = {name: parameter.detach().clone() for name, parameter in kept.parameters.items()}

    def slope(self) -> tuple[Tensor, Tensor]:
        """(mean gradient, mean squared gradient by groups of samples), over the kept weights.

        The squares precondition and give damping its scale; for both a rough estimate of the curvature will do.
        """
        total = square = torch.zeros((), device=self.loss.device)
        for chunk in self.chunks:
            for part in chunk.chunks(GROUP):
                with sdpa_kernel(SDPBackend.MATH):
                    outputs, pull = vjp(self._outputs(part), self.point)[:2]
                    summed = self.kept.row(pull(self._slope_of_outputs(part)(outputs))[0])
                total, square = total + summed, square + summed.square()
        return total / self.samples, square / self.samples

    def curvature(self, row: Tensor) -> Tensor:
        """Jᵀ H J times a row, the mean over samples."""
        along = self.kept.spread(row)
        total = torch.zeros_like(row)
        for chunk in self.chunks:
            function = self._outputs(chunk)
            # The fused attention of CPUs has no derivative forwards; the plain formula has one.
            with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
                # Torch's own: its rules for jvp are scripted when the first one is called.
                warnings.filterwarnings("ignore", r".*torch\.jit\.script", DeprecationWarning)
                outputs, pull = vjp(function, self.point)[:2]
                change = jvp(function, (self.point,), (along,))[1]
                bent = vjp(self._slope_of_outputs(chunk), outputs)[1](change)[0]  # H is symmetric
                total += self.kept.row(pull(bent)[0])
        return total / self.samples

    def damped(self, rows: Tensor, extra: Tensor) -> Tensor:
        """(Jᵀ H J + extra) times one row, [1, kept], as `pcg` asks for it."""
        return self.curvature(rows[0]).unsqueeze(0) + extra * rows

    def _outputs(self, chunk: Batch) -> Callable[[dict[str, Tensor]], Tensor]:
        def outputs(parameters: dict[str, Tensor]) -> Tensor:
            result: Tensor = functional_call(self.kept.support.model, parameters, chunk.args, chunk.kwargs)
            return result
        return outputs

    def _slope_of_outputs(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """The derivative of the summed loss by the outputs."""
        slope: Callable[[Tensor], Tensor] = grad(lambda outputs: self.loss.of_outputs(outputs, batch) * batch.size)
        return slope
