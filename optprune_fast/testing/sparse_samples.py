"""Samples of the operations on compressed weights: both kinds of places, full and ragged slices, edges of tiles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optprune_fast.ops.rows import TILE, Rows
from optprune_fast.ops.slices import Slices, to_slices
from optprune_fast.ops.words import pack
from optprune_fast.testing.sample import Sample, generator_of


def _drawn(seed: int, kept: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.randn(int(kept.sum()), generator=generator_of(5, seed, *kept.shape)).to(dtype)


def _sparse(kept: Tensor, dtype: torch.dtype, seed: int, *, groups: int = 1, coded: bool = False) -> Slices:
    return to_slices(pack(kept), _drawn(seed, kept, dtype), kept.shape[1], groups=groups, coded=coded)


def _rows(kept: Tensor, dtype: torch.dtype, seed: int, *, coded: bool = False) -> Rows:
    starts = torch.nn.functional.pad(kept.sum(1).cumsum(0), (1, 0)).int()
    values = _drawn(seed, kept, dtype)
    if coded:
        return Rows(values, pack(kept), torch.empty(0, dtype=torch.int16), starts)
    padded = torch.nn.functional.pad(kept, (0, -kept.shape[1] % TILE))
    counts = padded.view(-1, TILE).sum(1) if padded.numel() else torch.empty(0)
    return Rows(values, (kept.nonzero()[:, 1] % TILE).to(torch.uint8), counts.to(torch.int16), starts)


def _sparse_linear(dtype: torch.dtype, B: int = 5, O: int = 11, I: int = 300, *, density: float = 0.3,  # noqa: E741
                   coded: bool = False, bias: bool = True, kept: Tensor | None = None, name: str = "",
                   laid_out: Callable[..., tuple[Tensor, ...]] = _sparse) -> Sample:
    generator = generator_of(6, B, O, I)
    if kept is None:
        kept = torch.rand(O, I, generator=generator) < density
    x = torch.randn(B, I, generator=generator).to(dtype)
    added = torch.randn(O, generator=generator).to(dtype) if bias else None
    planes = laid_out(kept, dtype, 1, coded=coded)
    label = name or f"B{B}-O{O}-I{I}"
    return Sample(f"{label}-{'words' if coded else 'columns'}", (x, [O, I], *planes, added), I)


def sparse_linear_samples(dtype: torch.dtype) -> list[Sample]:
    out = []
    for coded in (False, True):
        make = functools.partial(_sparse_linear, dtype, coded=coded)
        out += [make(), make(B=1)]
        out += [make(I=n) for n in (0, 1, 63, 64, 65, 255, 256, 257, 513)]
        out += [make(B=n) for n in (0, 2, 7, 8, 9, 15, 17, 33, 65)]
        out += [make(O=n, B=b) for n in (0, 1, 7, 8, 9, 65) for b in (1, 3)]
        out += [make(O=270, I=520, B=b, density=0.05) for b in (1, 40)]  # bands; tiles of columns and of samples
        rows = torch.arange(20)[:, None]
        masks = {
            "all-kept": torch.ones(9, 300, dtype=torch.bool),
            "none-kept": torch.zeros(9, 300, dtype=torch.bool),
            "last-column-only": torch.arange(300).eq(299).expand(9, 300),
            "rows-of-every-length": torch.arange(300) < rows * 13 + rows % 3,  # slices with a rest in every row
            "one-row-longer": (torch.arange(300) < 40) | (rows == 5),
        }
        out += [make(B=b, O=len(kept), kept=kept, name=f"B{b}-{name}") for name, kept in masks.items() for b in (1, 9)]
        out.append(make(bias=False, name="no-bias"))
        if dtype == torch.float32:
            for short in (torch.bfloat16, torch.float16):
                name = str(short).removeprefix("torch.")
                out += [_sparse_linear(short, B=b, coded=coded, name=f"{name}-B{b}") for b in (1, 5)]
    x, shape, *rest = out[0].arguments
    out.append(Sample("x-of-one-dim", (x[0], shape, *rest), 300))
    out.append(Sample("x-of-four-dims", (x[None, :, None], shape, *rest), 300))
    out.append(Sample("x-transposed", (x.T.contiguous().T, shape, *rest), 300))
    return out


def rows_linear_samples(dtype: torch.dtype) -> list[Sample]:
    out = []
    for coded in (False, True):
        make = functools.partial(_sparse_linear, dtype, coded=coded, laid_out=_rows)
        out += [make(), make(B=1)]
        out += [make(I=n, B=b) for n in (0, 1, 63, 64, 65, 257) for b in (1, 3)]
        out += [make(I=513, B=17), make(I=300, B=130, O=3)]  # edges of words, of tiles, and of steps; several tiles
        out += [make(B=n, O=5, I=70) for n in (0, 2, 16, 17, 63, 64, 65)]
        out += [make(O=n, B=b, I=70) for n in (0, 1, 9, 65) for b in (1, 3)]
        out += [make(O=9, I=2300, B=b, density=0.02) for b in (1, 17)]  # more tiles than a step takes, few kept in each
        rows = torch.arange(9)[:, None]
        masks = {
            "all-kept": torch.ones(9, 300, dtype=torch.bool),
            "none-kept": torch.zeros(9, 300, dtype=torch.bool),
            "last-column-only": torch.arange(300).eq(299).expand(9, 300),
            "rows-of-every-length": torch.arange(300) < rows * 33 + rows % 3,
            "empty-rows": torch.arange(300) % 3 < rows % 2,
        }
        out += [make(B=b, O=9, kept=kept, name=f"B{b}-{name}") for name, kept in masks.items() for b in (1, 17)]
        out += [make(B=b, bias=False, name=f"B{b}-no-bias") for b in (1, 3, 17)]
        x, shape, *rest = make().arguments
        out.append(Sample(f"planes-amid-others-{'words' if coded else 'columns'}",
                          (x, shape, *(torch.stack([plane, plane], -1)[..., 0] for plane in rest)), 300))
    x, shape, *rest = out[0].arguments
    out.append(Sample("x-of-one-dim", (x[0], shape, *rest), 300))
    out.append(Sample("x-of-four-dims", (x[None, :, None], shape, *rest), 300))
    out.append(Sample("x-transposed", (x.T.contiguous().T, shape, *rest), 300))
    out.append(Sample("x-amid-rows", (torch.cat([x, x], 1)[:, :300], shape, *rest), 300))
    values, places, counts, starts, bias = rest
    out.append(Sample("starts-of-64-bits", (x, shape, values, places, counts, starts.long(), bias), 300))
    return out


def _sparse_conv(name: str, dtype: torch.dtype, B: int = 2, C: int = 4, H: int = 7, W: int = 6, O: int = 10,  # noqa: E741
                 kernel: tuple[int, int] = (3, 3), *, stride: tuple[int, int] = (1, 1),
                 padding: tuple[int, int] = (0, 0), dilation: tuple[int, int] = (1, 1), groups: int = 1,
                 density: float = 0.3, coded: bool = False, bias: bool = True) -> Sample:
    generator = generator_of(7, B, C, H, W, O, *kernel, groups)
    shape = [O, C // groups, *kernel]
    columns = shape[1] * kernel[0] * kernel[1]
    planes = _sparse(torch.rand(O, columns, generator=generator) < density, dtype, 2, groups=groups, coded=coded)
    x = torch.randn(B, C, H, W, generator=generator).to(dtype)
    added = torch.randn(O, generator=generator).to(dtype) if bias else None
    return Sample(f"{name}-{'words' if coded else 'columns'}", (x, shape, *planes, added, list(stride), list(padding),
                                                                list(dilation), groups), columns)


def sparse_conv2d_samples(dtype: torch.dtype) -> list[Sample]:
    out = []
    for coded in (False, True):
        def make(name: str, dtype: torch.dtype = dtype, coded: bool = coded, **sizes: Any) -> Sample:
            return _sparse_conv(name, dtype, coded=coded, **sizes)

        out += [make("plain"), make("padding", padding=(1, 1)), make("B0", B=0), make("B1", B=1), make("B9", B=9)]
        out += [make("O1", O=1), make("O265", O=265, density=0.05)]
        out += [make("C40", C=40, padding=(1, 1)), make("C29", C=29)]  # 360 and 261 columns
        out += [
            make("stride", stride=(2, 1), padding=(1, 1)),
            make("stride-across", stride=(1, 2), padding=(0, 1)),
            make("stride-beyond-kernel", stride=(4, 5)),
            make("padding-uneven", padding=(1, 2)),
            make("padding-beyond-kernel", padding=(4, 5)),
            make("dilation", dilation=(2, 1), padding=(2, 1)),
            make("everything", stride=(2, 3), padding=(3, 1), dilation=(2, 2), groups=2),
            make("groups", groups=2, padding=(1, 1)),
            make("depthwise", C=6, O=6, groups=6, padding=(1, 1), density=0.6),
            make("1x1", kernel=(1, 1)),
            make("1x1-stride", kernel=(1, 1), stride=(2, 2)),
            make("kernel-is-the-plane", kernel=(7, 6)),
            make("kernel-beyond-the-plane", H=3, W=2, kernel=(5, 6), padding=(1, 2)),
            make("one-row", H=1, W=40, kernel=(1, 7)),
            make("one-column", H=40, W=1, kernel=(7, 1)),
            make("wide", B=3, C=2, H=9, W=70, O=5, padding=(1, 1)),
            make("no-bias", bias=False),
        ]
        if dtype == torch.float32:
            out += [make("bfloat16", torch.bfloat16), make("float16", torch.float16)]
    x, *rest = out[0].arguments
    out.append(Sample("x-channels-last", (x.contiguous(memory_format=torch.channels_last), *rest), 36))
    out.append(Sample("x-amid-a-plane", (torch.nn.functional.pad(x, (2, 1, 1, 2), value=9.0)[..., 1:-2, 2:-1], *rest),
                      36))
    return out
