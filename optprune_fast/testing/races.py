"""Every CUDA kernel under NVIDIA's compute-sanitizer: addresses, races in shared memory, barriers.

`python -m optprune_fast.testing.races` is what it watches: samples of each operation, on the first GPU.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import torch

from optprune_fast.runtime import cuda
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects
from optprune_fast.testing.variants import moved

TOOLS = ("memcheck", "racecheck", "synccheck")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
EVERY = 4  # a watched kernel takes up to a hundred times as long
REFUSAL = "Device not supported"


class CannotWatch(Exception):
    """The sanitizer refuses this device, as it does on some virtual machines: it says nothing about the kernels."""


def sanitizer_missing() -> str | None:
    """Why nothing can be watched here, or None."""
    if cuda.missing():
        return f"no CUDA kernels to watch: {cuda.missing()}"
    if shutil.which("compute-sanitizer") is None:
        return "no compute-sanitizer on PATH, so races of CUDA kernels are not watched; the CUDA toolkit has it"
    return None


def race_fault(tool: str) -> str | None:
    """What one of the sanitizer's tools says about the samples, or None if all is well; `CannotWatch` may be raised."""
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", __name__]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    if any(REFUSAL in line for line in said):
        raise CannotWatch(f"compute-sanitizer {tool}: {REFUSAL}")
    if run.returncode:
        return f"compute-sanitizer {tool}: exit code {run.returncode}: " + " | ".join(said[-3:])
    return None


def run_samples(device: str, backend: str) -> int:
    """Run every fourth sample of each operation and dtype that the backend takes; how many those are."""
    ran = 0
    for subject in (s for s in subjects() if backend in s.operation.backends):
        for dtype in DTYPES:
            for sample in samples(subject.name, dtype)[::EVERY]:
                arguments = moved(sample.arguments, device)
                if subject.operation.reason(backend, *arguments) is None:
                    subject.function(*arguments, backend=backend)
                    ran += 1
    return ran


if __name__ == "__main__":
    if not run_samples("cuda", "cuda"):
        sys.exit("no kernel ran")
    torch.cuda.synchronize()
