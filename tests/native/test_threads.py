"""The thread pool: it is used, it survives fork, and several Python threads may call at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from optprune_fast.ops.masked_linear import operation
from optprune_fast.ops.words import pack

RUN = operation.implementation("native").run
PATIENCE_S = 60


def call(seed: int) -> tuple[torch.Tensor, ...]:
    """Work for several threads: 8 million products."""
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(64, 500, generator=generator), torch.randn(30, 500, generator=generator)
    return x, weight, pack(torch.rand(8, 30, 500, generator=generator) < 0.5)


def sleepers() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to count the threads of a process")
def test_more_threads_are_used_when_asked_and_none_when_not(forced, in_a_fork):
    arguments = call(0)
    read, write = os.pipe()

    def count() -> None:  # in a process whose pool is empty
        before = sleepers()
        forced("scalar", 1, RUN, *arguments)
        alone = sleepers() - before
        forced("scalar", 4, RUN, *arguments)
        os.write(write, bytes([alone, sleepers() - before]))

    assert in_a_fork(count) == 0
    assert list(os.read(read, 2)) == [0, 3]


def test_a_forked_child_has_a_pool_of_its_own(forced, in_a_fork):
    arguments = call(1)
    expected = forced("scalar", 3, RUN, *arguments)

    def again() -> None:
        assert torch.equal(forced("scalar", 3, RUN, *arguments), expected)

    assert in_a_fork(again) == 0
    again()


def test_several_python_threads_call_at_once(forced):
    alone = [forced("scalar", 1, RUN, *call(seed)) for seed in range(4)]
    forced("scalar", 3, RUN, *call(0))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            together = list(pool.map(lambda seed: RUN(*call(seed)), range(4)))
            assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_the_pool_has_no_race(root, tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    program = tmp_path / "pool_stress"
    build = subprocess.run(
        [compiler, "-std=c++17", "-O1", "-g", "-fsanitize=thread", "-pthread", f"-I{root / 'csrc'}",
         root / "tests/native/pool_stress.cpp", root / "csrc/common/thread_pool.cpp",
         root / "csrc/common/parallel_region.cpp", "-o", program],
        capture_output=True, text=True, check=False)
    if "tsan" in build.stderr:
        pytest.skip(f"g++ has no thread sanitizer: {build.stderr.strip().splitlines()[-1]}")
    assert build.returncode == 0, build.stderr
    # The address sanitizer that scripts/check_sanitizers.py preloads and the thread sanitizer exclude each other.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    run = subprocess.run([program], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if "unexpected memory mapping" in run.stderr:
        pytest.skip("the thread sanitizer cannot work with the address layout of this kernel")
    assert run.returncode == 0, run.stdout + run.stderr
