"""The machine code of rows_linear's Triton kernels is what it should be, on cards that are not here.

A few of them; all with OPTPRUNE_TEST_ALL=1 (`make gpu-code`), and on a machine with a GPU by `make gpu-check`.
"""

from __future__ import annotations

import itertools
import os

import pytest

from optprune_fast.ops.triton_support import compile_options
from optprune_fast.testing.aot import MachineCode
from optprune_fast.testing.rows_code import TYPES, compile_kernel, configurations

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1",
                                reason="TRITON_INTERPRET=1: interpreted kernels have no machine code")

REGISTERS = 65536  # of a multiprocessor
FULL, HALF, BRAIN = TYPES
ONE, FEW, MANY = "one_by_words_kernel", "few_by_columns_kernel", "many_kernel"
CHOSEN = [
    # capability, dtype, aligned, wide, kernel, constants
    (90, BRAIN, True, False, ONE, {"ROWS": 8}),
    (80, FULL, False, True, ONE, {"ROWS": 8}),
    (90, BRAIN, True, False, FEW, {"ROWS": 8, "TILES": 8, "ENTRIES": 16, "SAMPLES": 1}),
    (80, HALF, True, False, FEW, {"ROWS": 2, "TILES": 8, "ENTRIES": 8, "SAMPLES": 16}),
    (90, FULL, True, True, FEW, {"ROWS": 2, "TILES": 8, "ENTRIES": 32, "SAMPLES": 4}),
    (90, BRAIN, True, False, MANY, {"TILE_B": 16, "TILE_O": 64, "LISTED": False}),
    (80, BRAIN, True, False, MANY, {"TILE_B": 128, "TILE_O": 64, "LISTED": False}),
    (80, FULL, False, False, MANY, {"TILE_B": 16, "TILE_O": 64, "LISTED": True}),
    (90, HALF, False, True, MANY, {"TILE_B": 64, "TILE_O": 64, "LISTED": True}),
    (90, FULL, True, False, MANY, {"TILE_B": 32, "TILE_O": 32, "LISTED": False}),
]
ALL = [(capability, dtype, aligned, wide, name, constants)
       for capability, dtype, aligned, wide in itertools.product((80, 90), TYPES, (True, False), (False, True))
       for name, constants in configurations(dtype) if aligned or name != FEW]  # that one has no rows of steps


def wide_loads(code: MachineCode, size: str) -> int:
    """Loads of so many bits, into registers or shared memory."""
    return sum(n for name, n in code.instructions.items() if name.startswith("LDG") and name.endswith(f".{size}"))


@pytest.mark.parametrize(("capability", "dtype", "aligned", "wide", "name", "constants"),
                         ALL if os.environ.get("OPTPRUNE_TEST_ALL") == "1" else CHOSEN)
def test_a_shipped_launch(capability, dtype, aligned, wide, name, constants):
    from optprune_fast.ops.rows_linear import triton_impl

    assert (name, constants) in list(configurations(dtype))
    code = compile_kernel(name, dtype, capability, aligned=aligned, wide=wide, **constants)
    assert code.stack_bytes == 0
    assert code.count("LDL") == code.count("STL") == 0
    if name == MANY:
        [warps] = [m.warps for m in triton_impl.MANY[dtype] if m.tile_b == constants["TILE_B"]]
        programs = 8 // warps  # that one multiprocessor must have room for
        if dtype == FULL:
            assert code.count("FFMA") > 0
            assert code.count("HMMA") == code.count("HGMMA") == 0  # tf32 would keep 10 bits of each factor
        else:
            assert code.count("HGMMA" if capability == 90 else "HMMA") > 0
            assert code.count("FFMA") == 0
        if aligned:  # straight into shared memory, 16 bytes a thread where there are so many
            assert wide_loads(code, "64" if constants["TILE_B"] == 16 and dtype != FULL else "128") > 0
    else:
        warps, programs = triton_impl.FEW_WARPS, 8 if name == ONE and aligned and not wide else 4
        assert code.count("FFMA") > 0
        together = dtype.itemsize * constants.get("SAMPLES", 8)
        if (name == FEW or aligned) and together >= 8:
            assert wide_loads(code, "128" if together >= 16 else "64") > 0
    assert programs * code.registers * 32 * warps <= REGISTERS


def test_the_gate_sees_a_spill():
    code = compile_kernel(MANY, FULL, 90, aligned=False, options=compile_options(8), TILE_B=64, TILE_O=32,
                          LISTED=True)
    assert code.stack_bytes > 0
    assert code.count("LDL") > 0
