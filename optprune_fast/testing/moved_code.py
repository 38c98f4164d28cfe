"""The machine code of moved_linear's Triton kernels, for a card that need not be here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from optprune_fast.ops.precision import PRECISIONS
from optprune_fast.ops.triton_support import factors, triton_type
from optprune_fast.testing.aot import MachineCode, compile_triton

_TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_FLOATS = ("sums", "changes", "factors", "inputs", "bias", "low", "high")
_LISTS = ("units", "unit_starts", "rows", "row_starts", "words", "targets", "firsts", "ends", "places")
_SCALARS = {"low": "fp32", "high": "fp32"}
_ROWS = ("outputs", "width", "weight_o")  # what 16 divides where rows start on 16 bytes


def compile_kernel(name: str, precision: str, capability: int, *, aligned: bool = True, wide: bool = False,
                   options: dict[str, Any] | None = None, **constants: Any) -> MachineCode:
    """One kernel as `triton_impl` has it compiled for a float32 network in this precision.

    aligned:    16 divides the sizes of rows
    constants:  as `configurations` names them
    options:    of the launch, where they are not the shipped ones
    """
    from optprune_fast.ops.moved_linear import triton_impl, triton_kernel

    kernel, stored = getattr(triton_kernel, name), factors(torch.float32, precision)
    given = {"WIDE": wide, "DOT": triton_type(stored), "PRECISION": PRECISIONS[precision].dot, "BIAS": True,
             "ACTIVATION": "relu", "LOSS": "cross_entropy", **constants}
    narrow = f"*{_TYPES[stored]}"
    types = {**dict.fromkeys(_FLOATS, "*fp32"), **dict.fromkeys(_LISTS, "*i64"), **_SCALARS, "columns": narrow,
             "weight": narrow, "x": narrow, "source": "*fp32",
             "out": narrow if name == "moved_linear_kernel" else "*fp32"}
    names = [n for n in kernel.arg_names if n not in given]
    hints = [n for n in names if types.get(n, "").startswith("*") or (aligned and n in _ROWS)]
    return compile_triton(
        kernel, signature={n: types.get(n, "i32") for n in names},
        constants={n: value for n, value in given.items() if n in kernel.arg_names}, aligned=hints,
        capability=capability, options=options or triton_impl.COMPILED)


def configurations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(kernel, precision, constants) that a call may ask for; precisions that give the same code once.

    >>> sum(name == "next_loss_kernel" for name, _, _ in configurations())
    20
    """
    from optprune_fast.ops.moved_linear.triton_impl import INPUTS, LOSSES, NEXT, SUMS

    for precision in ("fp32", "fp16", "bf16"):
        yield "moved_inputs_kernel", precision, {"TILE_B": INPUTS}
        yield "moved_linear_kernel", precision, {"TILE_B": SUMS.tile_b, "TILE_O": SUMS.tile_o}
        for tile in LOSSES.values():
            yield "moved_loss_kernel", precision, {"TILE_B": tile.tile_b, "TILE_O": tile.tile_o}
    for precision, tile in itertools.product(PRECISIONS, NEXT.values()):
        yield "next_loss_kernel", precision, {"TILE_B": tile.tile_b, "TILE_O": tile.tile_o}


def spills(capability: int) -> Iterator[str]:
    """Kernels whose registers spill on such a card."""
    for (name, precision, constants), wide in itertools.product(configurations(), (False, True)):
        code = compile_kernel(name, precision, capability, aligned=not wide, wide=wide, **constants)
        if code.stack_bytes:
            yield f"moved_linear triton {name} {precision} {constants}: {code.stack_bytes} bytes spill"
