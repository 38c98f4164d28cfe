"""The machine code of the masked Triton kernels, for a card that need not be here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from optprune_fast.ops.triton_support import LAUNCHES, LOSS_LAUNCHES, Launch, compile_options
from optprune_fast.testing.aot import MachineCode, compile_triton

REGISTERS = 65536  # of a multiprocessor
SHARED_BYTES = 99 << 10  # that a program may have on every card from 8.0 on: 8.6, 8.9 and 12.x have the least
CHECKED = {"ampere": 80, "hopper": 90, "blackwell": 100, "rtx-blackwell": 120}  # the oldest card of each kind
_DOTS = {"tf32": "tf32", "tf32x3": "tf32x3"}  # the others say "ieee"
_SIZES = ("candidates", "samples", "outputs", "inputs", "groups", "height", "width", "out_height", "out_width",
          "stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w")
_STEPS = ("x_p", "x_b", "x_c", "x_h", "x_w", "weight_o", "words_p", "words_o")
_ROWS = ("outputs", "inputs", "x_p", "x_b", "weight_o")  # what 16 divides where rows start on 16 bytes


FACTORS = {"fp32": ("fp32", "fp32"), "tf32": ("fp32", "tf32"), "tf32x3": ("fp32", "tf32x3"), "16-bit": ("bf16", "fp32")}


@dataclass(frozen=True)
class Configuration:
    """One way to compile one of the kernels.

    kernel:      "masked_linear", "masked_loss" or "masked_conv2d"
    factors:     type of the factors: "fp32", "fp16" or "bf16";   stored: type in memory, "" for the same
    precision:   as `PRECISIONS` has it, of float32 factors
    launch:      how it is launched
    aligned:     16 divides the sizes and steps of rows;   wide: 64-bit offsets
    ones:        sizes that are 1, which a launch compiles in
    window:      of a convolution, its kernel
    """

    kernel: str
    factors: str
    precision: str
    launch: Launch
    stored: str = ""
    aligned: bool = True
    wide: bool = False
    stacked: bool = False
    activation: str = "relu"
    ones: tuple[str, ...] = ()
    window: tuple[int, int] = (3, 3)

    def __str__(self) -> str:
        tile = self.launch
        return "-".join([self.kernel, self.stored or self.factors, self.precision, f"{tile.tile_b}x{tile.tile_o}",
                         "aligned" if self.aligned else "ragged", "int64" if self.wide else "int32",
                         "stacked" if self.stacked else "apart"])


def machine_code(configuration: Configuration, capability: int) -> MachineCode:
    """The kernel as a launch would have it compiled."""
    import triton.language as tl

    from optprune_fast.ops.masked_conv2d import triton_kernel as conv2d
    from optprune_fast.ops.masked_linear import triton_kernel as linear

    [kernel] = {getattr(module, f"{configuration.kernel}_kernel") for module in (conv2d, linear)
                if hasattr(module, f"{configuration.kernel}_kernel")}
    c, launch = configuration, configuration.launch
    constants: dict[str, Any] = {
        "TILE_B": launch.tile_b, "TILE_O": launch.tile_o, "WIDE": c.wide, "STACKED": c.stacked, "BIAS": True,
        "DOT": {"fp32": tl.float32, "fp16": tl.float16, "bf16": tl.bfloat16}[c.factors],
        "PRECISION": _DOTS.get(c.precision, "ieee"), "ACTIVATION": c.activation, "LOSS": "cross_entropy",
        "KERNEL_H": c.window[0], "KERNEL_W": c.window[1], **dict.fromkeys(c.ones, 1)}
    pointer = f"*{c.stored or c.factors}"
    signature = {**dict.fromkeys(("x", "weight", "bias", "out"), pointer), "words": "*i64", "targets": "*i64",
                 **dict.fromkeys(_SIZES, "i32"), **dict.fromkeys(_STEPS, "i64" if c.wide else "i32"),
                 "low": "fp32", "high": "fp32"}
    if c.kernel == "masked_loss":
        signature |= {"bias": "*fp32", "out": "*fp32"}
    names = kernel.arg_names
    pointers = ("x", "weight", "words", "bias", "targets", "out")
    return compile_triton(
        kernel, signature={name: signature[name] for name in names if name not in constants},
        constants={name: value for name, value in constants.items() if name in names},
        aligned=[*pointers, *(_ROWS if c.aligned else ())], capability=capability,
        options=compile_options(launch.warps, launch.stages))


def faults_of(c: Configuration, code: MachineCode) -> list[str]:
    """What is wrong with the machine code of a configuration: spills, too many registers, too much shared memory,
    narrow loads, and another instruction than the one that multiplies in this precision.

    Rows that start on 16 bytes are loaded so, straight into shared memory; then two programs fit a multiprocessor, and
    one computes while the other waits. A convolution's pixels lie as they lie.
    """
    tensor_cores, exact = code.count("HMMA") + code.count("HGMMA"), (c.factors, c.precision) == ("fp32", "fp32")
    linear = c.kernel == "masked_linear" and c.aligned and not c.wide and not c.stored
    programs = 2 if linear else 1
    wide_loads = sum(n for name, n in code.instructions.items() if name.startswith("LDGSTS") and name.endswith(".128"))
    rules = {
        "registers spill": code.stack_bytes == 0 and code.count("LDL") == code.count("STL") == 0,
        f"{programs} programs do not fit": programs * code.registers * 32 * c.launch.warps <= REGISTERS,
        "more shared memory than some cards have": code.shared_bytes <= SHARED_BYTES,
        "no loads of 16 bytes": not linear or wide_loads > 0,
        "no tensor cores": exact or tensor_cores > 0,
        "tensor cores, which round": not exact or tensor_cores == 0 < code.count("FFMA"),
    }
    return [fault for fault, holds in rules.items() if not holds]


def faults_of_shipped(c: Configuration, capability: int) -> list[str]:
    """Compile it, and say what is wrong with it."""
    return faults_of(c, machine_code(c, capability))


def configurations() -> Iterator[tuple[int, Configuration]]:
    """(compute capability, configuration): every shipped launch with every kernel, for rows that start on 16 bytes and
    for those that do not, with 32- and with 64-bit offsets.

    >>> sum(c.kernel == "masked_loss" for _, c in configurations())
    256
    """
    both = (False, True)
    for (kind, capability), aligned, wide in itertools.product(CHECKED.items(), both, both):
        for (arithmetic, shape), launch in LAUNCHES[kind].items():
            for kernel in ("masked_linear",) if shape == "large" else ("masked_linear", "masked_conv2d"):
                yield capability, Configuration(kernel, *FACTORS[arithmetic], launch, aligned=aligned, wide=wide,
                                                stacked=wide)
        for (arithmetic, _), launch in LOSS_LAUNCHES[kind].items():
            yield capability, Configuration("masked_loss", *FACTORS[arithmetic], launch, aligned=aligned, wide=wide)


def cast_on_load() -> Iterator[tuple[int, Configuration]]:
    """float32 in memory, rounded to 16 bits as it is loaded."""
    for capability, c in configurations():
        if c.factors == "bf16":
            yield capability, replace(c, stored="fp32")
