"""The self-check of `doctor --verify`: every backend evaluates the same masks of a small network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP
from optprune_fast.runtime.doctor import Report
from optprune_fast.runtime.errors import BackendError

# A loss near 2.3 that is rounded a few hundred times in float32 is off by some 1e-6; a wrong weight shows at 1e-3.
FLOOR = 4e-6


@dataclass(frozen=True)
class Check:
    """What one backend did. `verdict`: "agrees", "wrong", or why it declined."""

    backend: str
    device: str
    verdict: str
    error: float | None  # largest difference of a fitness from float64
    limit: float


def verify(report: Report) -> list[Check]:
    """Check every backend that the report says runs here."""
    # Rows of 65 weights: a whole word and one bit of the next.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MLP([65, 33, 10]).eval()
        data = torch.randn(67, 65), torch.randint(10, (67,))
    layout = MaskLayout.of(net)
    masks = random_masks(layout, layout.budget(0.7), range(5))
    exact_net = MLP([65, 33, 10]).double().eval()
    exact_net.load_state_dict(net.state_dict())
    reference = Evaluator(exact_net, (data[0].double(), data[1]), backend="torch")(masks)
    plain = Evaluator(net, data, backend="torch")(masks)
    limit = 2 * float((plain - reference).abs().max()) + FLOOR
    return [_check(b.name, net, data, masks, reference, limit) for b in report.backends if b.runs]


def _check(backend: str, net: MLP, data: tuple[Tensor, Tensor], masks: PackedMasks, reference: Tensor,
           limit: float) -> Check:
    device = "cuda" if backend in ("cuda", "triton") and torch.cuda.is_available() else "cpu"
    there = MLP([65, 33, 10]).to(device).eval()
    there.load_state_dict(net.state_dict())
    try:
        fitness = Evaluator(there, data, backend=backend)(masks.to(device)).cpu()
    except BackendError as error:
        return Check(backend, device, f"declines: {str(error).splitlines()[0]}", None, limit)
    worst = float((fitness - reference).abs().max())
    # Said this way round, a NaN is wrong.
    return Check(backend, device, "agrees" if worst <= limit else "wrong", worst, limit)
