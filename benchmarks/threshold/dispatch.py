"""NumPy partitions in AVX2 or in AVX-512. Which is faster depends on the processor; it is told before its import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WITHOUT_AVX512 = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}
TRIAL = """
import time
import numpy
given = numpy.abs(numpy.random.default_rng(0).standard_normal(10**6, numpy.float32))
times = []
for _ in range(15):
    values, start = given.copy(), time.process_time()
    values.partition(9 * 10**5)
    times.append(time.process_time() - start)
print(min(times))
"""


def force_fast_partition() -> str:
    """Try both, set the environment for the faster, and say which it is; nothing is done once NumPy is imported."""
    info = Path("/proc/cpuinfo")
    if "numpy" in sys.modules or not info.exists() or " avx512f" not in info.read_text():
        return "default dispatch"
    avx512, avx2 = _seconds({}), _seconds(WITHOUT_AVX512)
    if avx512 <= avx2:
        return "its default dispatch, AVX-512, the faster of two tried"
    os.environ.update(WITHOUT_AVX512)
    return "AVX2 forced, the faster of two tried"


def _seconds(setting: dict[str, str]) -> float:
    ran = subprocess.run([sys.executable, "-c", TRIAL], env={**os.environ, **setting}, check=True, capture_output=True,
                         text=True)
    return float(ran.stdout)
