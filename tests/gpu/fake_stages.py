"""Stages that end in every way there is, for another process to find by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gpu_check.stage import At, Fault, Skipped


@dataclass(frozen=True)
class Row:
    process: int


def ends(device):
    yield At("the first")
    yield Fault("it is wrong")
    yield Skipped("half of it: no room")
    yield Row(os.getpid())


def hangs(device):
    yield Row(os.getpid())
    yield At("the second")
    time.sleep(1000)


def never_stops_talking(device):
    while True:
        yield At("it")


def leaves_a_child(device, file):
    """Starts another process, as a pool or a sanitizer does, and hangs."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    Path(file).write_text(str(child.pid))
    yield At("waiting")
    child.wait()


def raises(device):
    yield Row(os.getpid())
    raise RuntimeError("an illegal memory access was encountered")


def is_killed(device):
    yield At("the brink")
    os.kill(os.getpid(), signal.SIGKILL)


def no_room():
    return "there is no such card here"
