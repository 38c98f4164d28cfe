"""The machine code of every shipped Triton launch is what it should be, on cards that are not here."""

from __future__ import annotations

import itertools
import os

import pytest
import torch

from optprune_fast.ops.masked_linear.triton_impl import LAUNCHES, OLDEST_CAPABILITY, Launch, compile_options
from optprune_fast.testing.aot import MachineCode, compile_triton

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1",
                                reason="TRITON_INTERPRET=1: interpreted kernels have no machine code")

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
CAPABILITIES = (80, 90)
REGISTERS = 65536  # of a multiprocessor
STEPS = ("x_p", "x_b", "weight_o", "words_p", "words_o")


def masked_linear_code(dtype: torch.dtype, capability: int, *, aligned: bool, wide: bool, launch: Launch | None = None,
                       ones: tuple[str, ...] = ()) -> MachineCode:
    """aligned: 16 divides the sizes and steps of rows; ones: sizes that are 1, which a launch compiles in."""
    from optprune_fast.ops.masked_linear.triton_kernel import masked_linear_kernel

    launch = launch or LAUNCHES[dtype]
    pointer = f"*{TYPES[dtype]}"
    signature = {"x": pointer, "weight": pointer, "words": "*i64", "out": pointer}
    signature |= dict.fromkeys(("samples", "outputs", "inputs"), "i32")
    signature |= dict.fromkeys(STEPS, "i64" if wide else "i32")
    hints = ["x", "weight", "words", "out", *(("outputs", "inputs", "x_p", "x_b", "weight_o") if aligned else ())]
    return compile_triton(
        masked_linear_kernel, signature=signature, aligned=hints, capability=capability,
        constants={"TILE_B": launch.tile_b, "TILE_O": launch.tile_o, "WIDE": wide} | dict.fromkeys(ones, 1),
        options=compile_options(launch))


SHIPPED = [pytest.param(*case, id=f"{TYPES[case[0]]}-sm_{case[1]}-{'aligned' if case[2] else 'ragged'}-"
                                  f"{'int64' if case[3] else 'int32'}")
           for case in itertools.product(LAUNCHES, CAPABILITIES, (True, False), (False, True))]


def test_the_oldest_card_that_is_served_is_the_oldest_that_is_checked():
    assert divmod(min(CAPABILITIES), 10) == OLDEST_CAPABILITY


@pytest.mark.parametrize(("dtype", "capability", "aligned", "wide"), SHIPPED)
def test_a_shipped_launch(dtype, capability, aligned, wide):
    code = masked_linear_code(dtype, capability, aligned=aligned, wide=wide)
    assert code.stack_bytes == 0
    assert code.count("LDL") == code.count("STL") == 0
    programs = 2 if aligned else 1  # that one multiprocessor must have room for, to hide what the other waits for
    assert programs * code.registers * 32 * LAUNCHES[dtype].warps <= REGISTERS
    if dtype == torch.float32:
        assert code.count("FFMA") > 0
        assert code.count("HMMA") == code.count("HGMMA") == 0  # tf32 would keep 10 bits of each factor
    else:
        assert code.count("HGMMA" if capability == 90 else "HMMA") > 0
        assert code.count("FFMA") == 0
    if aligned:
        loads = sum(n for name, n in code.instructions.items() if name.startswith("LDGSTS") and name.endswith(".128"))
        assert loads > 0  # 16 bytes a thread, straight into shared memory


@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
def test_sizes_of_one_compile(wide):
    code = masked_linear_code(torch.float32, 90, aligned=False, wide=wide,
                              ones=("outputs", "inputs", "x_b", "weight_o"))
    assert code.stack_bytes == 0


def test_the_gate_sees_a_spill():
    code = masked_linear_code(torch.float32, 80, aligned=False, wide=False,
                              launch=Launch(tile_b=128, tile_o=64, warps=4, stages=2))
    assert code.stack_bytes > 0
    assert code.count("LDL") > 0
    assert code.count("STL") > 0


def test_the_gate_sees_scalar_loads():
    code = masked_linear_code(torch.float16, 80, aligned=False, wide=False)
    assert not any(name.startswith("LDGSTS") and name.endswith(".128") for name in code.instructions)
