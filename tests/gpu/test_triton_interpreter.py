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

ROOT = Path(__file__).parents[2]
EVERYTHING = os.environ.get("OPTPRUNE_TEST_ALL") == "1"
ROWS = len(samples("rows_linear"))
# How many cases each file has: none may vanish or be skipped.
CASES = {
    "interpreter_bit_cases.py": len(samples("choose_bits")) + 3,
    "interpreter_cases.py": 2 * (len(samples("masked_linear")) + 3 + 2) + 41,
    "interpreter_conv_cases.py": len(samples("masked_conv2d")) + 16,
    "interpreter_engine_cases.py": 25,
    "interpreter_replay_cases.py": 16,
    "interpreter_memory_cases.py": 4,
    "interpreter_search_cases.py": 4,
    "interpreter_tune_cases.py": 4,
    "interpreter_moved_cases.py": len(samples("moved_linear")) + 30,
    "interpreter_moves_cases.py": 35,
    "interpreter_rank_cases.py": (len(rank_cases()) + len(samples("topk_threshold")) if EVERYTHING else 7 + 6) + 3,
    # float32; as many in float16, or every fourth; and 24 cases of single samples or none
    "interpreter_rows_cases.py": ROWS + len(range(0, ROWS, 1 if EVERYTHING else 4)) + 24,
}

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.mark.parametrize(("file", "expected"), CASES.items())
def test_every_case_passes_in_the_interpreter(file, expected, record_property):
    fault = interpreter_fault()
    if fault:
        pytest.skip(fault)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name(file))], cwd=ROOT,
        text=True, capture_output=True, timeout=900, check=False, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(rf"^{expected} passed in ", run.stdout, re.MULTILINE), run.stdout
    served = re.search(r"^triton +(\d+)$", run.stdout, re.MULTILINE)
    record_property("ran", ["triton"] * int(served[1]))  # for the table at the end of this run, too


def test_every_file_of_cases_is_run():
    assert {path.name for path in Path(__file__).parent.glob("interpreter_*cases.py")} == set(CASES)


def test_importing_the_package_imports_no_triton():
    code = ("import sys, optprune_fast, optprune_fast.ops.masked_linear as op; "
            "reason = op.operation.implementation('triton').missing(); "
            "sys.exit('triton' in sys.modules)")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False).returncode == 0
