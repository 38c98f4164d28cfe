"""The machine code of every shipped launch of the masked Triton kernels is right, on cards that are not here.

Some of them; all with OPTPRUNE_TEST_ALL=1 (`make gpu-code`), and on a machine with a GPU by `make gpu-check`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optprune_fast.ops.triton_support import LAUNCHES, OLDEST_CAPABILITY, Launch
from optprune_fast.testing.masked_code import (
    Configuration,
    cast_on_load,
    configurations,
    faults_of,
    machine_code,
)

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1",
                                reason="TRITON_INTERPRET=1: interpreted kernels have no machine code")

ALL = [*configurations(), *cast_on_load()]
# Every launch of linear layers as most calls have it; convolutions and losses of one shape, in their hardest form.
OLD = (80, 90)
FEW = [(capability, c) for capability, c in configurations() if (
    (c.kernel == "masked_linear" and c.aligned and not c.wide and capability in OLD)
    or (c.kernel == "masked_conv2d" and c.aligned and c.wide
        and (capability, c.factors, c.precision) in ((100, "bf16", "fp32"), (120, "fp32", "fp32")))
    or (c.kernel == "masked_conv2d" and c.launch.tile_o in (32, 64) and not c.aligned and c.wide and capability == 80)
    or (c.kernel == "masked_loss" and c.launch.tile_o == 16 and not c.aligned and c.wide and capability == 90))]
SHIPPED = [pytest.param(*case, id=f"sm_{case[0]}-{case[1]}")
           for case in (ALL if os.environ.get("OPTPRUNE_TEST_ALL") == "1" else FEW)]


def test_the_oldest_card_that_is_served_is_the_oldest_that_is_checked():
    assert divmod(min(capability for capability, _ in ALL), 10) == OLDEST_CAPABILITY


def test_ci_compiles_few():
    assert 20 < len(FEW) <= 32  # at most 60 with those of the tests below and of other kernels


@pytest.mark.parametrize(("capability", "configuration"), SHIPPED)
def test_a_shipped_launch(capability, configuration):
    assert faults_of(configuration, machine_code(configuration, capability)) == []


def test_a_call_compiles_what_a_driver_would_launch():
    """The first layer stacked in bf16, a loss, and kernels for which nearly every size is 1."""
    run = subprocess.run([sys.executable, Path(__file__).with_name("compiled_launches.py")], capture_output=True,
                         text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "masked_linear_kernel 3 True", "masked_loss_kernel 3 True", "masked_conv2d_kernel 1 True",
        "choose_bits_kernel 2 True", "one_by_words_kernel 1 True", "many_kernel 1 True", "few_by_columns_kernel 1 True",
        "many_kernel 1 True", "many_kernel 1 True", "moved_linear_kernel 4 True", "moved_linear_kernel 2 True",
        "moved_loss_kernel 2 True", "next_loss_kernel 2 True", "moved_inputs_kernel 1 True"]


FP32 = LAUNCHES["ampere"]["fp32", "wide"]
HALF = LAUNCHES["ampere"]["16-bit", "wide"]


@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
def test_sizes_of_one_compile(wide):
    ones = ("outputs", "inputs", "x_b", "weight_o")
    configuration = Configuration("masked_linear", "fp32", "fp32", FP32, aligned=False, wide=wide, ones=ones)
    assert faults_of(configuration, machine_code(configuration, 90)) == []


def test_a_window_of_one_compiles():
    ones = ("outputs", "groups", "stride_h", "stride_w", "dilation_h", "dilation_w", "x_w", "out_height")
    configuration = Configuration("masked_conv2d", "fp32", "fp32", FP32, aligned=False, window=(1, 1), ones=ones)
    assert faults_of(configuration, machine_code(configuration, 80)) == []


def test_the_gate_sees_a_spill():
    configuration = Configuration("masked_conv2d", "bf16", "fp32", Launch(128, 128, warps=8, stages=3), aligned=False,
                                  wide=True, stacked=True)
    code = machine_code(configuration, 80)
    assert code.stack_bytes > 0
    assert code.count("LDL") > 0
    assert "spill" in " ".join(faults_of(configuration, code))


def test_the_gate_sees_scalar_loads_and_the_wrong_instruction():
    """Ragged rows have neither wide loads nor room for two programs; fp32 has no tensor cores."""
    ragged = machine_code(Configuration("masked_linear", "fp16", "fp32", HALF, aligned=False), 80)
    asked = Configuration("masked_linear", "fp16", "fp32", HALF)
    assert any("16 bytes" in fault for fault in faults_of(asked, ragged))
    assert any("tensor cores" in fault
               for fault in faults_of(Configuration("masked_linear", "fp32", "fp32", FP32), ragged))
