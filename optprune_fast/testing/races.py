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


def sanitizer() -> str | None:
    """Where it is; None where it, or what it would watch, is absent."""
    return None if cuda.missing() else shutil.which("compute-sanitizer")


def race_faults() -> list[str]:
    """What the sanitizer says, tool by tool; nothing where there is none."""
    found = sanitizer()
    if found is None:
        return []
    faults = []
    for tool in TOOLS:
        run = subprocess.run([found, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", __name__],
                             capture_output=True, text=True, check=False)
        if run.returncode:
            said = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
            faults.append(f"compute-sanitizer {tool}: exit code {run.returncode}: " + " | ".join(said[-3:]))
    return faults


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
