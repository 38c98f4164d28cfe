"""Stages in another process: one that hangs is cut off, one that dies is said to have, and the next one goes on."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
from gpu_check.stage import Device, Stage, outcome
from gpu_check.worker import Worker

from tests.gpu import fake_stages as fake

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux only: processes are looked up in /proc")
DEVICE = Device("cpu")
ENOUGH = 60.0


@pytest.fixture(scope="module")
def worker():
    worker = Worker()
    yield worker
    worker.stop()


def run(worker, stage, seconds=ENOUGH, **more):
    """What comes of it, once there is a process to run it: what it is given is not spent on the start of one."""
    list(worker.found(Stage("", fake.ends, 0), DEVICE, ENOUGH))
    return outcome(Stage("", stage, 0, **more), worker.found(Stage("", stage, 0, **more), DEVICE, seconds))


def alive(process):
    """Whether it runs: one that has ended stays listed, as a zombie, until its parent has asked how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_stage_yields_arrives_and_the_next_one_has_the_same_process(worker):
    first, second = run(worker, fake.ends), run(worker, fake.ends)
    assert (first.end, first.at, first.faults, first.skipped) == (
        "whole", "the first", ["it is wrong"], ["half of it: no room"])
    assert first.rows == second.rows != [fake.Row(os.getpid())]


def test_one_that_hangs_is_cut_off_keeps_what_it_had_and_its_process_is_gone(worker):
    begun = time.monotonic()
    late = run(worker, fake.hangs, seconds=2.0)
    assert (late.end, late.at, len(late.rows), late.faults) == ("cut off", "the second", 1, [])
    assert time.monotonic() - begun < ENOUGH
    assert not alive(late.rows[0].process)
    assert run(worker, fake.ends).end == "whole"


def test_one_that_goes_on_and_on_is_cut_off(worker):
    assert run(worker, fake.never_stops_talking, seconds=0.3).end == "cut off"


def test_what_it_has_started_ends_with_it(worker, tmp_path):
    assert run(worker, partial(fake.leaves_a_child, file=tmp_path / "child"), seconds=3.0).end == "cut off"
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


def test_one_that_raises_is_a_fault_and_the_next_one_has_another_process(worker):
    died = run(worker, fake.raises)
    assert (died.end, died.faults) == ("died", ["RuntimeError: an illegal memory access was encountered"])
    assert run(worker, fake.ends).rows != died.rows


def test_one_that_is_killed_is_a_fault(worker):
    died = run(worker, fake.is_killed)
    assert (died.end, died.at, died.faults) == ("died", "the brink", ["its process ended: signal 9"])
    assert run(worker, fake.ends).end == "whole"


def test_what_cannot_run_here_says_why(worker):
    skipped = run(worker, fake.hangs, needs=fake.no_room)
    assert (skipped.end, skipped.skipped, skipped.rows) == ("whole", ["there is no such card here"], [])
