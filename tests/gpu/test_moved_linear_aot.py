"""The machine code of moved_linear's Triton kernels is what it should be, on cards that are not here.

A few of them; all with OPTPRUNE_TEST_ALL=1 (`make gpu-code`).
"""

from __future__ import annotations

import itertools
import os

import pytest

from optprune_fast.ops.triton_support import compile_options
from optprune_fast.testing.moved_code import compile_kernel, configurations

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1",
                                reason="TRITON_INTERPRET=1: interpreted kernels have no machine code")

REGISTERS, THREADS = 65536, 128  # of a multiprocessor; of a program
ALL = [pytest.param(capability, name, precision, aligned, constants,
                    id="-".join([f"sm_{capability}", name, precision, str(constants.get("TILE_O", "")),
                                 "aligned" if aligned else "ragged"]))
       for capability, (name, precision, constants), aligned in itertools.product(
           (80, 90), configurations(), (True, False))]
# The hardest form of each kernel in each precision: ragged rows, 64-bit offsets, the largest tile of outputs.
FEW = [case for case in ALL if not case.values[3] and case.values[4].get("TILE_O", 128) in (32, 128)]


@pytest.mark.parametrize(("capability", "name", "precision", "aligned", "constants"),
                         ALL if os.environ.get("OPTPRUNE_TEST_ALL") == "1" else FEW)
def test_a_shipped_launch(capability, name, precision, aligned, constants):
    """Offsets have 64 bits where rows are ragged, so that both kinds are compiled."""
    code = compile_kernel(name, precision, capability, aligned=aligned, wide=not aligned, **constants)
    assert code.stack_bytes == code.count("LDL") == code.count("STL") == 0
    assert 2 * code.registers * THREADS <= REGISTERS
    tensor_cores = code.count("HMMA.1") + code.count("HGMMA")  # HFMA2.MMA moves a constant
    assert (tensor_cores > 0) == (name == "next_loss_kernel" and precision != "fp32")
    assert code.count("FFMA") > 0  # differences are float32 in every precision


def test_the_gate_sees_a_spill():
    code = compile_kernel("next_loss_kernel", "tf32", 80, aligned=False, wide=True,
                          options=compile_options(4, registers=128), TILE_B=64, TILE_O=64)
    assert code.stack_bytes > 0
    assert code.count("LDL") > 0
