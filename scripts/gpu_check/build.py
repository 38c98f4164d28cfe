"""Build and install the package; say what machine this is."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_check.stage import Device, Fault, Found, Stage

ROOT = Path(__file__).parents[2]
INSTALL = (sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", ".")


def install(device: Device, command: Sequence[str] = INSTALL) -> Iterator[Found]:
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        yield Fault(f"{' '.join(command[1:])}: exit code {code}")


BUILD = Stage("build", install, 240)  # not one of STAGES: the others cannot be looked up before it


@dataclass(frozen=True)
class Machine:
    """What figures are worth nothing without."""

    card: str
    capability: str
    memory: str
    driver: str
    cuda: str
    date: str
    commit: str
    command: str
    doctor: dict[str, Any]


def machine(device: Device) -> Iterator[Found]:
    import torch

    from optprune_fast.runtime import cuda, triton
    from optprune_fast.runtime.doctor import doctor

    report, on_gpu = doctor(), device.name == "cuda"
    print(report, flush=True)
    properties = torch.cuda.get_device_properties(0) if on_gpu else None
    yield Machine(
        card=properties.name if properties else platform.processor() or platform.machine(),
        capability=f"{properties.major}.{properties.minor}" if properties else "none",
        memory=f"{properties.total_memory / 2**30:.0f} GiB" if properties else "none",
        driver=said_by("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if on_gpu else "none",
        cuda=cuda.missing() or f"compiled for {cuda.module().architectures()}",
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        commit=said_by("git", "describe", "--always", "--dirty", "--abbrev=12"),
        command="python scripts/gpu_check",
        doctor=report.as_dict())
    if on_gpu and triton.missing():
        yield Fault(f"triton, which GPU tensors rely on: {triton.missing()}")


def said_by(*command: str) -> str:
    """What a tool prints, or "unknown" where it is absent or fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip().splitlines()[0] if run.stdout.strip() else "unknown"


STAGES = (Stage("machine", machine, 60),)
