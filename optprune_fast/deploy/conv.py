"""Convolutions on compressed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.ops import rows_linear as by_rows
from optprune_fast.ops import sparse_conv2d as by_slices


class SparseConv2d(SparseLayer):
    """`nn.Conv2d` on kept weights alone: any stride, padding, padding mode, dilation and groups.

    weight:  a `SparseWeight` [out_channels, in_channels/groups, kh, kw], made with the same groups
    bias:    a parameter, or None

    On a GPU a kernel of one tap is a linear layer over the pixels; else the weight is dense while the layer runs.
    """

    axes = 2
    stride: Sequence[int]
    dilation: Sequence[int]

    def __init__(self, weight: SparseWeight, bias: nn.Parameter | None = None, *,
                 stride: Sequence[int] | None = None, padding: Sequence[int] | str | None = None,
                 dilation: Sequence[int] | None = None, groups: int = 1, padding_mode: str = "zeros",
                 why: str = "") -> None:
        super().__init__(weight, bias, why)
        self.out_channels, self.in_channels = weight.shape[0], weight.shape[1] * groups
        ones = (1,) * self.axes
        self.kernel_size, self.stride, self.dilation = tuple(weight.shape[2:]), stride or ones, dilation or ones
        self.padding = padding if isinstance(padding, str) else tuple(padding or (0,) * self.axes)
        self.groups, self.padding_mode = groups, padding_mode
        # torch's order of an explicit padding: last axis first, before and after
        self._around: list[int] = []
        for axis in reversed(range(self.axes)):
            whole = self.dilation[axis] * (self.kernel_size[axis] - 1) if padding == "same" else 0
            before = 0 if isinstance(self.padding, str) else self.padding[axis]
            self._around += [before + whole // 2, before + whole - whole // 2]

    @classmethod
    def of(cls, weight: SparseWeight, conv: nn.Conv1d | nn.Conv2d, why: str = "") -> SparseConv2d:
        """This weight in the place of the convolution's own; its bias is shared."""
        return cls(weight, conv._parameters["bias"], stride=conv.stride, padding=conv.padding, dilation=conv.dilation,
                   groups=conv.groups, padding_mode=conv.padding_mode, why=why)

    def forward(self, x: Tensor) -> Tensor:
        alone = x.dim() == self.axes + 1
        x = x.unsqueeze(0) if alone else x
        padding = self._around[::2][::-1]
        if self.padding_mode != "zeros" or self._around[::2] != self._around[1::2]:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x, padding = torch.nn.functional.pad(x, self._around, mode), [0] * self.axes
        out = (self._convolve_rows if self.weight.in_rows else self._convolve_slices)(x, padding)
        return out.squeeze(0) if alone else out

    def _convolve_slices(self, x: Tensor, padding: list[int]) -> Tensor:
        arguments, plain, _ = self._arguments(x)
        call: Any = by_slices.serve if plain else by_slices.sparse_conv2d
        out: Tensor = call(x, *arguments, self.stride, padding, self.dilation, self.groups)
        return out

    def _convolve_rows(self, x: Tensor, padding: list[int]) -> Tensor:
        if max(self.kernel_size) == 1 and self.groups == 1 and not any(padding):
            (shape, *rest), plain, _ = self._arguments(x)
            call: Any = by_rows.serve if plain else by_rows.rows_linear
            seen: tuple[Any, ...] = (..., *(slice(None, None, step) for step in self.stride))
            pixels: Tensor = call(x[seen].movedim(1, -1), shape[:2], *rest)
            return pixels.movedim(-1, 1)
        convolve: Any = torch.nn.functional.conv1d if self.axes == 1 else torch.nn.functional.conv2d
        out: Tensor = convolve(x, self.weight.to_dense(), self.bias, self.stride, padding, self.dilation, self.groups)
        return out

    def to_dense(self) -> nn.Conv1d | nn.Conv2d:
        """The same layer as torch has it."""
        kind: Any = nn.Conv1d if self.axes == 1 else nn.Conv2d
        out: nn.Conv1d | nn.Conv2d = kind(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            self.groups, bias=False, padding_mode=self.padding_mode, device="meta")
        self.fill(out)
        return out

    def extra_repr(self) -> str:
        named = {"padding": self.padding, "dilation": self.dilation, "groups": self.groups,
                 "padding_mode": self.padding_mode}
        plain = {"padding": (0,) * self.axes, "dilation": (1,) * self.axes, "groups": 1, "padding_mode": "zeros"}
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"{name}={value}" for name, value in named.items() if value != plain[name]]
        return ", ".join([*parts, *filter(None, [super().extra_repr()])])


class SparseConv1d(SparseConv2d):
    """`nn.Conv1d` on kept weights alone; weight: [out_channels, in_channels/groups, k]."""

    axes = 1

    def _convolve_slices(self, x: Tensor, padding: list[int]) -> Tensor:
        (shape, *rest), plain, _ = self._arguments(x)
        call: Any = by_slices.serve if plain else by_slices.sparse_conv2d
        out: Tensor = call(x.unsqueeze(2), [*shape[:2], 1, shape[2]], *rest, [1, *self.stride], [0, *padding],
                           [1, *self.dilation], self.groups).squeeze(2)
        return out
