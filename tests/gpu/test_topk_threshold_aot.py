"""The machine code of topk_threshold's Triton kernels is what it should be, on cards that are not here.

A few of them; all with OPTPRUNE_TEST_ALL=1 (`make gpu-code`), and on a machine with a GPU by `make gpu-check`.
"""

from __future__ import annotations

import itertools
import os

import pytest

from optprune_fast.testing.rank_code import compile_kernel, configurations

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1",
                                reason="TRITON_INTERPRET=1: interpreted kernels have no machine code")

REGISTERS = 65536  # of a multiprocessor
FEW = [(90, "mark_kernel", {"RANKS": 1, "AGAIN": False, "DROP": False}),
       (80, "mark_kernel", {"RANKS": 2, "AGAIN": False, "DROP": False}),
       (80, "exact_digit_kernel", {"STEP": 0, "DROP": True, "BLOCK": 2048}),
       (90, "patch_kernel", {"FIRST": True, "POOL": True})]
ALL = [(capability, *rest) for capability, rest in itertools.product((80, 90), configurations())]


@pytest.mark.parametrize(("capability", "name", "constants"),
                         ALL if os.environ.get("OPTPRUNE_TEST_ALL") == "1" else FEW)
def test_a_kernel_does_not_spill_and_reads_16_bytes_at_a_time(capability, name, constants):
    from optprune_fast.ops.topk_threshold import triton_impl

    assert (name, constants) in list(configurations())
    code = compile_kernel(name, capability, **constants)
    assert code.stack_bytes == 0
    assert code.count("LDL") == code.count("STL") == 0
    if name == "mark_kernel":
        # One multiprocessor has room for two programs: one loads while the other computes.
        assert 2 * code.registers * 32 * triton_impl.TILE_WARPS <= REGISTERS
    if name in ("mark_kernel", "exact_digit_kernel"):
        assert code.count("LDG.E.128") >= 4 + 2  # 16 weights a thread, of 4 bytes, or of 2


def test_the_gate_sees_a_spill():
    from optprune_fast.ops.topk_threshold import triton_impl

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_impl, "MARK_REGISTERS", 48)
        code = compile_kernel("mark_kernel", 80, RANKS=1, AGAIN=False, DROP=False)
    assert code.stack_bytes > 0
    assert code.count("LDL") > 0
