"""What launches of Triton kernels share; and of the masked ones, one table of tiles, by kind of GPU, arithmetic and
shape."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optprune_fast.ops.cuda_support import NARROW_LIMIT, declines_device, declines_dtype
from optprune_fast.ops.precision import DEFAULT, PRECISIONS, declines_precision
from optprune_fast.runtime import triton


class Launch(NamedTuple):
    """A tile of samples (pixels, of a convolution) × outputs per program."""

    tile_b: int
    tile_o: int
    warps: int
    stages: int


DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST_CAPABILITY = (8, 0)
NARROW, LARGE = 16, 512  # rows of a product: at most so many, and at least so many
# By what multiplies. "ampere", 8.x: warps. "hopper", 9.x: warp groups, 64 rows at a time, so 32 would leave its tensor
# cores to the older instruction. "blackwell", 10.x and 11.x: tensor memory, whose instruction wants 64 rows, too.
# "rtx-blackwell", 12.x: warps again, and 99 KiB of shared memory a program as on 8.6 and 8.9, more than any takes here.
#
# None of these spills on sm_80, sm_90, sm_100 and sm_120 (testing/masked_code.py says for which calls,
# tests/gpu/test_triton_aot.py looks). More than 8 float32 sums a thread that are no tensor core's spill in some of
# those cases. Nothing here has been timed on a GPU: these tiles load 16 bytes a thread where rows are aligned.
_AMPERE = {
    ("fp32", "narrow"): Launch(128, 16, warps=8, stages=2),
    ("fp32", "wide"): Launch(64, 32, warps=8, stages=2),
    ("tf32", "narrow"): Launch(64, 16, warps=4, stages=3),
    ("tf32", "wide"): Launch(64, 64, warps=8, stages=3),
    ("tf32", "large"): Launch(128, 64, warps=8, stages=3),
    ("tf32x3", "narrow"): Launch(64, 16, warps=4, stages=2),
    ("tf32x3", "wide"): Launch(64, 32, warps=8, stages=2),
    ("16-bit", "narrow"): Launch(128, 16, warps=4, stages=3),
    ("16-bit", "wide"): Launch(128, 64, warps=8, stages=3),
    ("16-bit", "large"): Launch(128, 128, warps=8, stages=3),
}
_HOPPER = {**_AMPERE, ("tf32x3", "wide"): Launch(64, 64, warps=8, stages=2)}
LAUNCHES = {
    "ampere": _AMPERE,
    "hopper": _HOPPER,
    "blackwell": {**_HOPPER, ("16-bit", "narrow"): Launch(64, 16, warps=4, stages=3),
                  ("16-bit", "wide"): Launch(64, 64, warps=8, stages=3)},
    "rtx-blackwell": {**_AMPERE, ("fp32", "wide"): Launch(64, 16, warps=8, stages=2)},
}
MOST_CLASSES = 128
_LOSSES = {
    **{("fp32", rows): Launch(2048 // rows, rows, warps=8, stages=2) for rows in (16, 32, 64, 128)},
    **{(kind, rows): Launch(64, rows, warps=4 if rows < 64 else 8, stages=2)
       for kind in ("tf32", "tf32x3", "16-bit") for rows in (16, 32, 64, 128)},
    ("tf32x3", 128): Launch(32, 128, warps=8, stages=2),
}
LOSS_LAUNCHES = {
    **dict.fromkeys(("ampere", "hopper", "blackwell"), _LOSSES),
    "rtx-blackwell": {**_LOSSES, ("tf32x3", 32): Launch(64, 32, warps=8, stages=2),
                      ("16-bit", 128): Launch(32, 128, warps=8, stages=2)},
}


class Product(NamedTuple):
    """What a kernel is compiled for and launched with, but for the tensors.

    stacked:  outputs of several candidates share tiles, since they share the input
    """

    launch: Launch
    stacked: bool
    constants: dict[str, Any]

    def tiles(self, rows: int, candidates: int) -> int:
        """Programs for each tile of samples; rows: of one candidate."""
        apart, together = candidates * -(-rows // self.launch.tile_o), -(-rows * candidates // self.launch.tile_o)
        return together if self.stacked else apart


class Epilogue(NamedTuple):
    """What happens to a sum before it is stored: bias [O] is added, then an activation of `plan/reference.py`."""

    bias: Tensor | None = None
    activation: str = "none"
    parameters: tuple[float, ...] = ()

    @property
    def numbers(self) -> tuple[float, float]:
        """The parameters as kernels take them: two, those that an activation lacks are 0."""
        low, high, *_ = (*self.parameters, 0.0, 0.0)
        return low, high


PLAIN = Epilogue()


def missing() -> str | None:
    return triton.missing()


def declines(x: Tensor, precision: str = DEFAULT) -> str | None:
    """Why the masked kernels do not take `x`, or None."""
    older = "; on older ones backend='cuda' serves float32 linear layers, and backend='torch' everything"
    return declines_floats(x, precision, older) or declines_precision(x, precision)


def declines_floats(x: Tensor, precision: str = DEFAULT, older: str = "") -> str | None:
    """Why kernels that multiply do not take `x` where it lies, or None. older: what is said to a device too old"""
    if triton.interpreted():
        wrong = x.dtype == torch.bfloat16 or precision == "bf16"
        return "Triton's interpreter computes bfloat16 wrongly" if wrong else declines_dtype(x, *DTYPES)
    device = declines_device(x, OLDEST_CAPABILITY)
    if device and x.device.type == "cuda":
        device += older
    return declines_dtype(x, *DTYPES) or device


def family(device: torch.device) -> str:
    """The kind of GPU, as the table of launches has them; what is interpreted is launched like the oldest."""
    return "ampere" if device.type != "cuda" else _family(torch.cuda.get_device_capability(device))


@functools.cache
def _family(capability: tuple[int, int]) -> str:
    return next(name for first, name in ((12, "rtx-blackwell"), (10, "blackwell"), (9, "hopper"), (0, "ampere"))
                if capability[0] >= first)


def arithmetic(dtype: torch.dtype, precision: str) -> str:
    """What multiplies: "16-bit", or a precision of float32."""
    return precision if factors(dtype, precision).itemsize == 4 else "16-bit"


def factors(dtype: torch.dtype, precision: str) -> torch.dtype:
    """The type that factors of this dtype have in a product of this precision."""
    return dtype if dtype.itemsize == 2 else PRECISIONS[precision].dtype


def product(x: Tensor, rows: int, candidates: int, precision: str, *, shared: bool, wide: bool,
            large: bool = False) -> Product:
    """The launch for `rows` outputs of each candidate, by their number."""
    return products(x, rows, candidates, precision, shared=shared, wide=wide, large=large, every=False)[0]


def products(x: Tensor, rows: int, candidates: int, precision: str, *, shared: bool, wide: bool,
             large: bool = False, every: bool = True) -> list[Product]:
    """All launches that could serve `rows` outputs of each candidate, that of `product` first.

    large:  whether the kernel has registers for the large tiles
    every:  False gives the first alone
    """
    table, kind, together = LAUNCHES[family(x.device)], arithmetic(x.dtype, precision), candidates if shared else 1
    shape = "narrow" if rows * together <= NARROW else "large" if large and rows * together >= LARGE else "wide"
    able = ("narrow", "wide", "large") if large else ("narrow", "wide")
    first = table.get((kind, shape)) or table[kind, "wide"]
    others = [table[kind, other] for other in able if (kind, other) in table] if every else []
    launches = dict.fromkeys([first, *others])
    return [_placed(launch, x.dtype, rows, candidates, precision, shared, wide) for launch in launches]


def _placed(launch: Launch, dtype: torch.dtype, rows: int, candidates: int, precision: str, shared: bool, wide: bool
            ) -> Product:
    """Candidates that share their input are stacked where their rows then take fewer tiles: that is, unless the rows of
    one fill its tiles exactly, or all of them together are more than the kernels count, in 32 bits."""
    apart, stacked = (Product(launch, stack, _constants(launch, dtype, precision, wide)) for stack in (False, True))
    fewer = stacked.tiles(rows, candidates) < apart.tiles(rows, candidates)
    return stacked if shared and fewer and rows * candidates <= NARROW_LIMIT else apart


def loss_product(x: Tensor, classes: int, precision: str, *, wide: bool) -> Product:
    """The launch of a last layer whose outputs, at most `MOST_CLASSES`, lie in one tile."""
    tile_o = max(NARROW, 1 << (classes - 1).bit_length())
    launch = LOSS_LAUNCHES[family(x.device)][arithmetic(x.dtype, precision), tile_o]
    return Product(launch, False, _constants(launch, x.dtype, precision, wide))


def _constants(launch: Launch, dtype: torch.dtype, precision: str, wide: bool) -> dict[str, Any]:
    return {"TILE_B": launch.tile_b, "TILE_O": launch.tile_o, "WIDE": wide,
            "DOT": triton_type(factors(dtype, precision)), "PRECISION": PRECISIONS[precision].dot,
            **compile_options(launch.warps, launch.stages)}


def triton_type(dtype: torch.dtype) -> Any:
    import triton.language as tl

    return {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}[dtype]


def compile_options(warps: int, stages: int = 2, registers: int | None = None) -> dict[str, Any]:
    """registers: of a thread, at most; None leaves it to the assembler, which may spill some for one more program."""
    # enable_fp_fusion is said because its default is about to change in Triton 3.10.
    most = {} if registers is None else {"maxnreg": registers}
    return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True, **most}


# CUDA's limit of the first axis of a grid.
MOST_PROGRAMS = 2**31 - 1


def device_of(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Where kernels are launched; nothing to say for those that are interpreted."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def slices(candidates: int, programs: int, most: int = MOST_PROGRAMS) -> Sequence[slice]:
    """Candidates by launch, as the limit of a grid asks for: one, outside of tests and huge populations.

    programs:  of one candidate
    """
    step = max(1, most // programs)
    return [slice(first, min(first + step, candidates)) for first in range(0, candidates, step)]
