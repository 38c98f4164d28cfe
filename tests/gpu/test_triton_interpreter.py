"""The Triton kernels give the right numbers, with no GPU: in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from optprune_fast.runtime.triton import interpreter_fault
from optprune_fast.testing.ranks import rank_cases
from optprune_fast.testing.samples import samples

CASES = [Path(__file__).with_name(f"interpreter_{name}.py")
         for name in ("cases", "rank_cases", "rows_cases", "bit_cases")]
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def test_every_case_passes_in_the_interpreter(record_property):
    fault = interpreter_fault()
    if fault:
        pytest.skip(fault)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, CASES)], cwd=ROOT, text=True,
        capture_output=True, timeout=900, check=False, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    # 2 dtypes of all samples, 3 sizes of tiles and of offsets, and 7 single cases: none may vanish or be skipped.
    expected = 2 * (len(samples("masked_linear")) + 3 + 1) + 7
    everything = os.environ.get("OPTPRUNE_TEST_ALL") == "1"
    expected += (len(rank_cases()) + len(samples("topk_threshold")) if everything else 7 + 6) + 3
    rows = len(samples("rows_linear"))  # float32; as many in float16, or every fourth; and 22 cases of single samples
    expected += rows + len(range(0, rows, 1 if everything else 4)) + 22
    expected += len(samples("choose_bits")) + 3
    assert re.search(rf"^{expected} passed in ", run.stdout, re.MULTILINE), run.stdout
    served = re.search(r"^triton +(\d+)$", run.stdout, re.MULTILINE)
    record_property("ran", ["triton"] * int(served[1]))  # for the table at the end of this run, too


def test_importing_the_package_imports_no_triton():
    code = ("import sys, optprune_fast, optprune_fast.ops.masked_linear as op; "
            "reason = op.operation.implementation('triton').missing(); "
            "sys.exit('triton' in sys.modules)")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False).returncode == 0
