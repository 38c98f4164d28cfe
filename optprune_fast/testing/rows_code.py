"""The machine code of rows_linear's Triton kernels, for a card that need not be here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from optprune_fast.ops.triton_support import compile_options
from optprune_fast.testing.aot import MachineCode, compile_triton

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_PLANES = {"words": "*u8", "columns": "*u8", "counts": "*i16", "starts": "*i32"}
_SIZES = ("inputs", "bytes_o", "x_b")  # of which 16 may be a divisor, so that loads are wide


def compile_kernel(name: str, dtype: torch.dtype, capability: int, *, aligned: bool = True, wide: bool = False,
                   options: dict[str, Any] | None = None, **constants: Any) -> MachineCode:
    """One kernel with a bias, as `triton_impl.launch` has it compiled.

    aligned:    16 divides the sizes and steps of rows
    constants:  as `configurations` names them
    options:    of the launch, where they follow from no configuration
    """
    from optprune_fast.ops.rows_linear import triton_few, triton_impl, triton_many

    kernel = getattr(triton_many if name == "many_kernel" else triton_few, name)
    pointer = f"*{TYPES[dtype]}"
    types = dict.fromkeys(("x", "values", "bias", "out"), pointer) | _PLANES
    types["places"] = "*u8" if constants.get("LISTED") else "*i32"
    types["x_b"] = "i64" if wide else "i32"
    names = [n for n in kernel.arg_names if n not in {"WIDE", *constants}]
    hints = [n for n in names if n in types and n != "x_b"] + [n for n in names if n in _SIZES and aligned]
    if options is None and name == "many_kernel":
        [config] = [m for m in triton_impl.MANY[dtype] if m.tile_b == constants["TILE_B"]]
        options = compile_options(config.warps, config.stages)
    return compile_triton(
        kernel, signature={n: types.get(n, "i32") for n in names}, constants={**constants, "WIDE": wide},
        aligned=hints, capability=capability, options=options or compile_options(triton_impl.FEW_WARPS))


def configurations(dtype: torch.dtype) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kernel with every set of constants that a call may ask for.

    >>> [name for name, _ in configurations(torch.float32)].count("few_by_columns_kernel")
    15
    """
    from optprune_fast.ops.rows_linear import triton_impl

    yield "one_by_words_kernel", {"ROWS": triton_impl.FEW_ROWS}
    for samples in (1, 2, 4, 8, 16):
        for mean in (1, 10, 100):
            config = triton_impl.few_for(mean, 1, samples)
            yield "few_by_columns_kernel", {"ROWS": config.rows, "TILES": config.tiles, "ENTRIES": config.entries,
                                            "SAMPLES": samples}
    for many in triton_impl.MANY[dtype]:
        for listed in (False, True):
            yield "many_kernel", {"TILE_B": many.tile_b, "TILE_O": many.tile_o, "LISTED": listed}
