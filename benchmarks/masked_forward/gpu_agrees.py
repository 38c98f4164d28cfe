"""The engine on a device, whole networks against float64, before any of them is timed.

`make gpu-check` asks, on machines where pytest is not at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, DepthwiseNet, LeNet5, ResNet20, TinyTransformer
from optprune_fast.testing.tolerance import network_limit

NETWORKS: dict[str, tuple[type[nn.Module], tuple[object, ...], tuple[int, ...]]] = {
    "MLP": (MLP, ([784, 300, 100, 10],), (784,)),
    "LeNet-5": (LeNet5, (), (1, 28, 28)),
    "ResNet-20": (ResNet20, (3, 10), (3, 32, 32)),
    "depthwise": (DepthwiseNet, (3, 10), (3, 32, 32)),
    "transformer": (TinyTransformer, (1, 28, 10), (1, 28, 28)),
}
SAMPLES, CANDIDATES, CALLS = 64, 5, 4  # a call, a captured one, and replays of it
WHOLE, PIECES = 1 << 30, 1 << 20  # memory: in one chunk, and in many


def network_faults(device: str, backend: str, precisions: Sequence[str],
                   networks: Sequence[str] = tuple(NETWORKS)) -> Iterator[str]:
    """What is wrong with the fitness of a few masks of each network, and of moves of one, in each precision; nothing,
    if all is right."""
    for name in networks:
        make, arguments, shape = NETWORKS[name]
        torch.manual_seed(0)
        model, inputs = make(*arguments).eval(), torch.randn(SAMPLES, *shape)
        targets = torch.randint(10, (SAMPLES,))
        layout = MaskLayout.of(model)
        masks = random_masks(layout, layout.n // 2, candidate_seeds(0, 0, CANDIDATES))
        exact, plain = (_outputs(model, masks, inputs, dtype) for dtype in (torch.float64, torch.float32))
        losses = torch.stack([F.cross_entropy(one, targets) for one in exact])
        moves = _moves(layout)
        near_outputs = _outputs(model, swap(masks[0], moves), inputs, torch.float64)
        near_losses = torch.stack([F.cross_entropy(one, targets) for one in near_outputs])
        terms = max(layer.columns for layer in layout)
        there = model.to(device), (inputs.to(device), targets.to(device)), masks.to(device)
        for precision in precisions:
            limit = network_limit(exact, plain, terms=terms, layers=len(layout), precision=precision)
            for memory in (WHOLE, PIECES):
                evaluator = Evaluator(*there[:2], backend=backend, memory=memory, precision=precision, reuse=())
                if not evaluator._compiled.ready and backend != "torch":
                    yield f"{name}: does not run whole: {evaluator._compiled.reason}"
                found = [evaluator(there[2]).double().cpu() for _ in range(CALLS)]
                errors = [float((fitness - losses).abs().max()) for fitness in found]
                errors.append(float((evaluator.outputs(there[2]).double().cpu() - exact).abs().max()))
                near = evaluator.moves(there[2][0], moves.to(device)).double().cpu()
                errors.append(float((near - near_losses).abs().max()))
                if not max(errors) <= limit:  # said this way round, a NaN fails
                    yield f"{name} {precision}: errors {errors} of {CALLS} calls, outputs, moves; at most {limit:.3g}"


def _moves(layout: MaskLayout) -> Tensor:
    """int64 [M, 3]: the ends of some layers, with a weight of the last one or without."""
    some, last = layout.layers[::max(1, len(layout) // 4)], layout.layers[-1].weights.stop - 2
    return torch.tensor([[layer.first_weight, layer.weights.stop - 1, last if number % 2 else -1]
                         for number, layer in enumerate(some)])


def _outputs(model: nn.Module, masks: PackedMasks, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """[P, B, classes]: one call a candidate, of `weight * mask`."""
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor
             for name, tensor in model.state_dict().items()}
    out = []
    for mask in masks:
        kept = {name: state[name] * bits[0] for name, bits in mask.to_dense().items()}
        with torch.no_grad():
            out.append(functional_call(model, {**state, **kept}, (inputs.to(dtype),)))
    return torch.stack(out)
