"""Least squares layer by layer: what a pruned layer gives comes close to what the dense one gave.

    dense copy    ─▶ its layer gives y, bias aside ──┐
                                                      min over the kept weights  Σ ‖ w x - y ‖² + λ ‖ w - w₀ ‖²
    pruned copy   ─▶ its layer is given x  ───────────┘

One layer after the other, in the order in which they run, so that each makes up for what those before it lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.engine.batches import Batch
from optprune_fast.runtime.errors import message
from optprune_fast.tuning.pcg import pcg
from optprune_fast.tuning.support import Support

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
CHUNK = 256  # samples that are unfolded at once
STEPS, TOLERANCE = 500, 1e-10


@dataclass
class Normal:
    """Sums over samples of a layer in groups: x xᵀ and y xᵀ, float64."""

    squares: Tensor  # [groups, I, I]
    products: Tensor  # [groups, O / groups, I]
    rows: int = 0

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """inputs: [groups, N, I]; outputs: [groups, N, O / groups]"""
        inputs, outputs = inputs.double(), outputs.double()
        self.squares += inputs.transpose(1, 2) @ inputs
        self.products += outputs.transpose(1, 2) @ inputs
        self.rows += inputs.shape[1]


def refit_layers(support: Support, dense: nn.Module, batches: list[Batch], damping: float,
                 include_biases: bool) -> None:
    """Change the kept weights of the Linear and convolutional layers of `support`, in place.

    dense: the unpruned model, in eval mode
    """
    modules = dict(support.model.named_modules(remove_duplicate=False))
    before = dict(dense.named_modules(remove_duplicate=False))
    for name in _in_order(support, batches):
        _refit(support, name, modules[name], before[name], dense, batches, damping, include_biases)


def _refit(support: Support, name: str, module: nn.Module, before: nn.Module, dense: nn.Module,
           batches: list[Batch], damping: float, include_biases: bool) -> None:
    assert isinstance(module, Layer)
    assert isinstance(before, Layer)
    weight = module.weight
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    rows, columns = weight.shape[0] // groups, weight[0].numel()
    free = module.bias if include_biases else None
    width = columns + (free is not None)
    sums = Normal(weight.new_zeros(groups, width, width, dtype=torch.float64),
                  weight.new_zeros(groups, rows, width, dtype=torch.float64))
    for chunk in (part.to(weight.device) for batch in batches for part in batch.chunks(CHUNK)):
        for given, output in zip(_calls(support.model, module, chunk, 0), _calls(dense, before, chunk, 1),
                                 strict=True):
            wanted = output
            columns_in = _unfolded(module, given)
            if free is not None:
                columns_in = torch.cat([columns_in, columns_in.new_ones(*columns_in.shape[:2], 1)], dim=2)
            elif isinstance(before.bias, Tensor):
                wanted = output - (before.bias if isinstance(module, nn.Linear) else
                                   before.bias.view(-1, *[1] * (weight.dim() - 2)))
            sums.add(columns_in, _by_row(module, wanted, groups))
    kept = ~support.pruned[_held_name(support, name)].view(groups, rows, columns)
    start = weight.detach().double().view(groups, rows, columns)
    if free is not None:
        start = torch.cat([start, free.detach().double().view(groups, rows, 1)], dim=2)
        kept = torch.cat([kept, kept.new_ones(groups, rows, 1)], dim=2)
    solved = solve(sums, start, kept, damping)
    with torch.no_grad():
        weight.copy_(solved[:, :, :columns].reshape(weight.shape))
        if free is not None:
            free.copy_(solved[:, :, columns].reshape(-1))
    support.clear_weights()


def solve(sums: Normal, start: Tensor, kept: Tensor, damping: float) -> Tensor:
    """The kept weights, from `start`: float64 [groups, O / groups, I]; the damping is a share of the mean of x²."""
    shape = start.shape
    diagonal = sums.squares.diagonal(dim1=1, dim2=2)
    extra = damping * diagonal.mean() + torch.finfo(torch.float64).tiny

    def product(direction: Tensor) -> Tensor:
        direction = direction.view(shape)
        return ((direction @ sums.squares + extra * direction) * kept).view(-1, shape[2])

    right = ((sums.products - start @ sums.squares) * kept).view(-1, shape[2])
    step, _ = pcg(product, right, (diagonal + extra).unsqueeze(1).expand(shape).reshape(-1, shape[2]), STEPS,
                  TOLERANCE)
    return start + step.view(shape)


def _in_order(support: Support, batches: list[Batch]) -> list[str]:
    """The names of the modules that hold a layer of the mask, in the order in which they first run."""
    owners: dict[nn.Module, str] = {}
    for layer in support.mask.layout:
        names = [name.rpartition(".") for name in (layer.name, *layer.aliases)]
        module = support.model.get_submodule(names[0][0])
        if len(names) > 1 or names[0][2] != "weight" or not isinstance(module, Layer):
            raise ValueError(message("refit", "least squares know the weights of Linear, Conv1d and Conv2d modules "
                                     "that are not tied", "method='gauss_newton' takes every weight", layer=layer.name,
                                     module=type(module).__name__, tied=list(layer.aliases)))
        owners[module] = names[0][0]
    order: list[str] = []

    def note(module: nn.Module, *_: object) -> None:
        if owners[module] not in order:
            order.append(owners[module])

    handles = [module.register_forward_hook(note) for module in owners]
    try:
        _run(support.model, batches[0].pick(slice(0, 1)).to(next(support.model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return order


def _calls(model: nn.Module, module: nn.Module, batch: Batch, which: int) -> Iterator[Tensor]:
    """The input (`which` 0) or the output (1) of each call of a module while the model runs on a batch."""
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, given, output: seen.append((given[0], output)[which]))
    try:
        _run(model, batch)
    finally:
        handle.remove()
    return iter(seen)


def _run(model: nn.Module, batch: Batch) -> None:
    with torch.no_grad():
        model(*batch.args, **batch.kwargs)


def _unfolded(module: nn.Module, given: Tensor) -> Tensor:
    """[groups, N, I]: what each output is a product of; N counts samples times positions."""
    if isinstance(module, nn.Linear):
        return given.reshape(1, -1, given.shape[-1])
    assert isinstance(module, (nn.Conv1d, nn.Conv2d))
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ValueError(message("refit", "least squares know convolutions that are padded by a number of zeros",
                                 "method='gauss_newton' takes every layer", padding=module.padding,
                                 padding_mode=module.padding_mode))
    flat = isinstance(module, nn.Conv1d)
    size, stride, padding, dilation = ((1, *pair) if flat else pair for pair in (
        module.kernel_size, module.stride, module.padding, module.dilation))
    if flat:
        given, padding = given.unsqueeze(2), (0, *module.padding)
    patches = F.unfold(given, size, dilation, padding, stride)  # [B, channels · taps, positions]
    return patches.transpose(1, 2).reshape(-1, module.groups, patches.shape[1] // module.groups).transpose(0, 1)


def _by_row(module: nn.Module, outputs: Tensor, groups: int) -> Tensor:
    """[groups, N, O / groups]: outputs in the order of `_unfolded`."""
    if not isinstance(module, nn.Linear):
        outputs = outputs.flatten(2).transpose(1, 2)
    return outputs.reshape(-1, groups, outputs.shape[-1] // groups).transpose(0, 1)


def _held_name(support: Support, module: str) -> str:
    return support.mask.layout[f"{module}.weight".removeprefix(".")].name
