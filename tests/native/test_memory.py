"""Kernels touch no byte past the end of a tensor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from optprune_fast.runtime import native
from optprune_fast.testing.samples import samples

PROGRAM = Path(__file__).with_name("fenced_memory.py")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")


@pytest.mark.parametrize("isa", native.isas())
def test_tensors_may_end_where_memory_ends(isa):
    run = subprocess.run([sys.executable, PROGRAM, isa], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"exit {run.returncode} (-11: touched what is not there)\n{run.stderr}"
    everything = sum(len(samples(op)) for op in (
        "choose_bits", "masked_conv2d", "masked_linear", "sparse_conv2d", "sparse_linear", "topk_threshold"))
    assert run.stdout.split()[0] == str(everything)


def test_the_fence_holds():
    read_past_the_end = (
        f"import runpy, ctypes, torch; made = runpy.run_path({str(PROGRAM)!r})['before_the_fence'](5, torch.float32)\n"
        "print(ctypes.c_float.from_address(made.data_ptr() + 16).value, flush=True)\n"
        "print(ctypes.c_float.from_address(made.data_ptr() + 20).value, flush=True)\n")
    run = subprocess.run([sys.executable, "-c", read_past_the_end], capture_output=True, text=True, check=False)
    assert run.stdout == "0.0\n"
    assert run.returncode < 0
