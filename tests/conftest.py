"""At the end of a run: how many tests ran on each backend and instruction set.

A test counts for a backend if the backend's call counter rises while it runs, whatever the test is called. With
OPTPRUNE_REQUIRE_NATIVE=1 a whole run fails if a backend or an instruction set of this CPU ran no test at all.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from optprune_fast.models import MLP
from optprune_fast.testing import tally

_tests = pytest.StashKey[Counter]()
_absent = pytest.StashKey[list]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_tests] = Counter()
    config.stash[_absent] = []
    tally.snapshot()  # finds the compiled module before any test can hide it


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    before = tally.snapshot()
    result = yield
    item.user_properties.append(("ran", tally.ran_since(before)))
    return result


class Recorder:
    """Reports arrive in the process that prints the summary, also if workers of pytest-xdist ran the tests."""

    def __init__(self, tests: Counter[str]) -> None:
        self.tests = tests

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.tests.update(name for key, names in report.user_properties if key == "ran" for name in names)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(Recorder(session.config.stash[_tests]), "tests-by-backend")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if hasattr(config, "workerinput") or exitstatus != pytest.ExitCode.OK or not whole_run(config):
        return
    if os.environ.get("OPTPRUNE_REQUIRE_NATIVE") == "1":
        config.stash[_absent] = tally.without_tests(config.stash[_tests])
        if config.stash[_absent]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def whole_run(config: pytest.Config) -> bool:
    """Whether nothing narrowed the choice of tests: no file, no name, no marker, nothing collected only."""
    roots = {config.rootpath, Path(__file__).parent}
    narrowed = (config.option.keyword or config.option.markexpr or config.option.collectonly or config.option.deselect
                or config.option.ignore or config.option.ignore_glob or getattr(config.option, "lf", False))
    return not narrowed and all((config.invocation_params.dir / arg).resolve() in roots for arg in config.args)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    tests = config.stash[_tests]
    if not tests:
        return
    terminalreporter.section("tests that ran on each backend and instruction set")
    for line in tally.lines(tests):
        terminalreporter.write_line(line)
    if config.stash[_absent]:
        terminalreporter.write_line(
            f"FAILED: OPTPRUNE_REQUIRE_NATIVE=1, and no test ran on {', '.join(config.stash[_absent])}", red=True)


@pytest.fixture(autouse=True)
def _no_wishes_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests choose backends, instruction sets and threads themselves."""
    for name in ("OPTPRUNE_BACKEND", "OPTPRUNE_ISA", "OPTPRUNE_THREADS"):
        monkeypatch.delenv(name, raising=False)


# ---- what several folders of tests use


@pytest.fixture(scope="session")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return MLP([16, 24, 4]).eval()


@pytest.fixture(scope="session")
def samples(network):
    """Targets are what the dense network says, so that there is something to lose."""
    inputs = torch.randn(200, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return inputs, network(inputs).argmax(1)


@pytest.fixture
def in_a_fork() -> Callable[[Callable[[], object]], int]:
    """in_a_fork(work): how a child ended that did `work()`, 0 if all went well. One that hangs fails the test."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here to try it in a process of its own")

    def run(work: Callable[[], object], patience_s: float = 60) -> int:
        with warnings.catch_warnings():  # Python 3.12 and later warn of what is done here
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                torch.set_num_threads(1)  # torch's own threads do not survive a fork, and it would wait for them
                work()
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                os._exit(status)  # whatever happened: the child must not go on as a second test run
        deadline = time.monotonic() + patience_s
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail("the child hangs")
            time.sleep(0.01)
        return done[1]

    return run


@pytest.fixture
def one_thread():
    """Batches this small gain nothing from a second thread, and lose much when other work holds its core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
