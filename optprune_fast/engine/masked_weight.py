"""A weight under a mask that is never multiplied out unless somebody needs it to be.

`functional_call` puts a `MaskedWeight` in the place of a parameter. Where the model uses it in a linear layer or a
convolution, our operator runs on the packed words; for any other use it becomes the dense `weight * mask`, so every
model that torch can run can be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from optprune_fast.ops import masked_conv2d, masked_linear
from optprune_fast.ops.precision import chosen
from optprune_fast.ops.words import unpack
from optprune_fast.runtime.dispatch import Choice, Operation

Record = dict[str, tuple[str, Choice | None]]  # layer -> (what ran, who served it)


class MaskedWeight(Tensor):
    """Stands for `weight * mask`; has the shape, dtype and device of the weight.

    plain:   the weight itself, [O, …]
    words:   int64 [O, ⌈I/64⌉], its packed mask; inside `vmap`, one candidate's
    record:  where to write which operation served this layer
    """

    plain: Tensor
    words: Tensor
    backend: str
    precision: str
    layer: str
    record: Record

    @staticmethod
    def of(weight: Tensor, words: Tensor, backend: str, precision: str, layer: str, record: Record) -> MaskedWeight:
        masked = Tensor._make_subclass(MaskedWeight, weight.detach(), False)
        masked.plain, masked.words, masked.backend = weight, words, backend
        masked.precision, masked.layer, masked.record = precision, layer, record
        return masked

    def effective(self) -> Tensor:
        """The dense `weight * mask`."""
        rows = self.words.shape[0]
        columns = self.plain.numel() // rows if rows else 0
        return self.plain * unpack(self.words, columns).reshape(self.plain.shape)

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _METADATA:
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        masked = _OPERATIONS.get(func)
        if masked is not None:
            call = _Call(func, *args, **kwargs)
            if isinstance(call.weight, cls) and not isinstance(call.x, cls) and not isinstance(call.bias, cls):
                return masked(call, call.weight)

        def densify(value: Any) -> Any:
            if not isinstance(value, cls):
                return value
            value.record.setdefault(value.layer, (f"dense weight in {getattr(func, '__name__', func)}", None))
            return value.effective()

        with torch._C.DisableTorchFunctionSubclass():
            plain_args, plain_kwargs = tree_map(densify, (args, kwargs))
            return func(*plain_args, **plain_kwargs)


class _Call:
    """The arguments of `F.linear`, `F.conv1d` or `F.conv2d`, however they were passed."""

    def __init__(self, func: Callable[..., Any], input: Tensor, weight: Tensor, bias: Tensor | None = None,
                 stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> None:
        self.func, self.x, self.weight, self.bias = func, input, weight, bias
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups


def _linear(call: _Call, weight: MaskedWeight) -> Tensor:
    x = call.x.reshape(-1, call.x.shape[-1])
    words = weight.words.unsqueeze(0)
    _note(weight, masked_linear.operation, x, weight.plain, words)
    out = masked_linear.masked_linear(x, weight.plain, words, backend=weight.backend,
                                      precision=weight.precision).squeeze(0)
    out = out.reshape(*call.x.shape[:-1], weight.plain.shape[0])
    return out if call.bias is None else out + call.bias


def _conv2d(call: _Call, weight: MaskedWeight) -> Tensor:
    spatial = weight.plain.dim() - 2
    stride, dilation = _per_axis(call.stride, spatial), _per_axis(call.dilation, spatial)
    kernel = list(weight.plain.shape[2:])
    x, batched = call.x, call.x.dim() == spatial + 2
    x = x if batched else x.unsqueeze(0)
    if call.padding == "same":
        x, padding = _pad_same(x, kernel, dilation), [0] * spatial
    else:
        padding = _per_axis(0 if call.padding == "valid" else call.padding, spatial)
    plain = weight.plain
    if spatial == 1:  # a convolution along one axis is one along two, the other of extent one
        x, plain = x.unsqueeze(-2), plain.unsqueeze(-2)
        stride, padding, dilation = [1, *stride], [0, *padding], [1, *dilation]
    arguments = (x, plain, weight.words.unsqueeze(0), stride, padding, dilation, call.groups)
    _note(weight, masked_conv2d.operation, *arguments)
    out = masked_conv2d.masked_conv2d(*arguments, backend=weight.backend, precision=weight.precision).squeeze(0)
    if spatial == 1:
        out = out.squeeze(-2)
    if call.bias is not None:
        out = out + call.bias.reshape(-1, *[1] * spatial)
    return out if batched else out.squeeze(0)


def _per_axis(value: int | Sequence[int], axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


def _pad_same(x: Tensor, kernel: list[int], dilation: list[int]) -> Tensor:
    """Zeros around x so that stride 1 keeps its size; the odd one goes to the end, as in torch."""
    pads: list[int] = []
    for taps, spread in zip(reversed(kernel), reversed(dilation), strict=True):
        total = spread * (taps - 1)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def _note(weight: MaskedWeight, operation: Operation, *arguments: Any) -> None:
    choice = operation.resolve(*arguments, backend=weight.backend, **chosen("Evaluator", weight.precision))
    weight.record.setdefault(weight.layer, (operation.name, choice))


_OPERATIONS: dict[Callable[..., Any], Callable[[_Call, MaskedWeight], Tensor]] = {
    F.linear: _linear, torch.conv1d: _conv2d, torch.conv2d: _conv2d, F.conv1d: _conv2d, F.conv2d: _conv2d}

# Questions about a weight that its values do not matter for.
_METADATA = {
    Tensor.shape.__get__, Tensor.dtype.__get__, Tensor.device.__get__, Tensor.layout.__get__,  # type: ignore[attr-defined]
    Tensor.ndim.__get__, Tensor.is_cuda.__get__, Tensor.requires_grad.__get__,  # type: ignore[attr-defined]
    Tensor.is_nested.__get__, Tensor.is_sparse.__get__,  # type: ignore[attr-defined]
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point, Tensor.is_complex}
