"""The machine code of choose_bits's Triton kernel is what it should be, on cards that are not here."""

from __future__ import annotations

import os

import pytest

from optprune_fast.ops.choose_bits.triton_impl import BLOCK, WARPS
from optprune_fast.testing.aot import MachineCode, compile_triton

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1",
                                reason="TRITON_INTERPRET=1: interpreted kernels have no machine code")

ADDRESSES, SIZES = ("words", "counts", "seeds", "out"), ("width", "words_step")
REGISTERS = 65536  # of a multiprocessor


def choose_bits_code(capability: int, *, wide: bool, **limits: int) -> MachineCode:
    from optprune_fast.ops.choose_bits.triton_kernel import choose_bits_kernel

    signature = dict.fromkeys(ADDRESSES, "*i64") | dict.fromkeys(SIZES, "i64" if wide else "i32")
    return compile_triton(choose_bits_kernel, signature=signature, constants={"BLOCK": BLOCK}, aligned=ADDRESSES,
                          capability=capability, options={"num_warps": WARPS, **limits})


@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_does_not_spill(capability, wide):
    code = choose_bits_code(capability, wide=wide)
    assert code.stack_bytes == 0
    assert code.count("LDL") == code.count("STL") == 0
    assert 2 * code.registers * 32 * WARPS <= REGISTERS  # two rows at a time on a multiprocessor


def test_the_gate_sees_a_spill():
    assert choose_bits_code(80, wide=False, maxnreg=32).stack_bytes > 0
