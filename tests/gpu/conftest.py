"""What tests of GPU kernels share: CUDA on a CPU, memory that ends, rows far apart; judges of masked_linear."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from optprune_fast.ops.masked_linear import cuda_impl, torch_impl
from optprune_fast.ops.masked_linear.reference import masked_linear_reference
from optprune_fast.ops.words import pack
from optprune_fast.runtime import cuda
from optprune_fast.testing.poison import PoisonedAllocations, poison_all
from optprune_fast.testing.tolerance import assert_as_accurate
from tests.gpu.engine_networks import NETS, Case

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))  # gpu_check, which is run from there
MISALIGNED_IS_FATAL = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")  # as it is on a GPU
Operands = tuple[Tensor, Tensor, Tensor]
Run = Callable[[Tensor, Tensor, Tensor], Tensor]


def random_operands(P: int, B: int, O: int, I: int, *, dtype: torch.dtype = torch.float32,  # noqa: E741
                    own: bool = False) -> Operands:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((P, B, I) if own else (B, I), generator=generator).to(dtype)
    weight = torch.randn(O, I, generator=generator).to(dtype)
    return x, weight, pack(torch.rand(P, O, I, generator=generator) < 0.4)


def judge_result(out: Tensor, operands: Operands, precision: str = "fp32") -> None:
    """The tolerance rule, against float64."""
    x, weight, words = operands
    magnitude = masked_linear_reference(x.abs(), weight.abs(), words)
    assert_as_accurate(out, torch_impl.run(*operands), masked_linear_reference(*operands), terms=x.shape[-1],
                       magnitude=float(magnitude.max()) if magnitude.numel() else 0.0, precision=precision)


def judge_run(run: Run, operands: Operands) -> None:
    """The same, with memory around the inputs that must be neither read nor written."""
    poisoned, guards = poison_all(operands)
    judge_result(run(*poisoned), operands)
    for guard in guards:
        guard.assert_intact()


def before_a_wall(tensor: Tensor) -> Tensor:
    """A copy whose last number ends where memory ends: to read or write the next one is the end of the process."""
    room = -(-tensor.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + mmap.PAGESIZE)
    wall = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + room
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(wall), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=room - tensor.nbytes)
    return copy.view(tensor.shape).copy_(tensor)


@pytest.fixture(scope="session")
def emulated_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ctypes.CDLL]:
    """emulated_library(operation): its CUDA kernels as functions of the CPU (emulated_<operation>.cpp)."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: CXX names none, g++ and clang++ are absent")

    def build(operation: str) -> ctypes.CDLL:
        library = tmp_path_factory.mktemp("emulated") / f"{operation}.so"
        subprocess.run([compiler, "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unknown-pragmas",
                        "-Werror", "-shared", "-fPIC", *MISALIGNED_IS_FATAL, "-I", ROOT / "csrc",
                        ROOT / f"tests/gpu/emulated_{operation}.cpp", "-o", library], check=True)
        return ctypes.CDLL(str(library))

    return build


@pytest.fixture
def emulate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[..., Tensor]]:
    """emulate(operation, function, launch): the `launch` of a cuda_impl, without its device and its stream and amid
    poison, which finds `function` in the place of `_cuda.<operation>`.

    function:  of all arguments after device and stream; False where threads of a block ended while others waited
    facts:     what else the module has
    """

    def put(operation: str, function: Callable[..., bool], launch: Callable[..., Tensor], **facts: object
            ) -> Callable[..., Tensor]:
        def kernel(device: int, stream: int, *arguments: object) -> None:
            assert (device, stream) == (3, 5)
            assert function(*arguments), "some threads of a block ended while others waited at a barrier"

        def run(*arguments: Any, **options: Any) -> Tensor:
            with PoisonedAllocations() as allocations:
                out = launch(*arguments, device=3, stream=5, **options)
            allocations.assert_intact()
            return out

        monkeypatch.setattr(cuda, "module", lambda: SimpleNamespace(**{operation: kernel}, **facts))
        return run

    return put


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    """Networks for the engine on a GPU, each with data and masks."""
    return {name: Case(name) for name in NETS}


@pytest.fixture(scope="session")
def masked_linear_library(emulated_library: Callable[[str], ctypes.CDLL]) -> ctypes.CDLL:
    return emulated_library("masked_linear")


@pytest.fixture(scope="session")
def emulator(masked_linear_library: ctypes.CDLL) -> Callable[..., bool]:
    """masked_linear's launches as a function of blocks, who runs ahead, way, kind, addresses, sizes and steps."""
    function = masked_linear_library.emulate_masked_linear
    function.restype = ctypes.c_bool
    function.argtypes = [ctypes.c_uint, ctypes.c_bool, *[ctypes.c_int] * 2, *[ctypes.c_void_p] * 4,
                         *[ctypes.c_int64] * 9]
    return function


@pytest.fixture
def emulated(emulator: Callable[..., bool], emulate: Callable[..., Callable[..., Tensor]]) -> Callable[..., Tensor]:
    """run(x, weight, words): what cuda_impl makes of the call, with the emulator in the place of `_cuda`, by a way that
    is named or by the one that every architecture has. Copies run ahead of products or products of copies: the same
    bits."""

    def once(operands: Operands, blocks: int, way: str, copies_ahead: bool) -> Tensor:
        before = cuda_impl.launches[way]
        function = functools.partial(emulator, blocks, copies_ahead)
        out = emulate("masked_linear", function, cuda_impl.launch)(*operands, way=way)
        assert cuda_impl.launches[way] == before + 1
        return out

    def run(x: Tensor, weight: Tensor, words: Tensor, blocks: int = 1, way: str = "") -> Tensor:
        way = way or ("fma" if x.dtype == torch.float32 else "mma")
        out = once((x, weight, words), blocks, way, False)
        if way != "fma":  # which copies nothing
            ahead = once((x, weight, words), blocks, way, True)
            assert torch.equal(ahead.view(torch.int16), out.view(torch.int16))
        return out

    return run


@pytest.fixture
def to_a_wall() -> Callable[[Tensor], Tensor]:
    return before_a_wall


@pytest.fixture
def walled(sample: Callable[..., Operands]) -> tuple[Operands, Tensor]:
    """Operands and an output, ragged in every dimension, each with a wall behind it."""
    x, weight, words = sample(2, 67, 69, 75, own=True)
    return (before_a_wall(x), before_a_wall(weight), before_a_wall(words)), before_a_wall(torch.empty(2, 67, 69))


@pytest.fixture
def sample() -> Callable[..., Operands]:
    return random_operands


@pytest.fixture
def judge() -> Callable[[Tensor, Operands], None]:
    return judge_result


@pytest.fixture
def judge_poisoned() -> Callable[[Run, Operands], None]:
    return judge_run


@pytest.fixture
def far_apart(tmp_path: Path) -> Callable[[Tensor, int], Tensor]:
    """A function that returns a copy of a matrix whose rows lie `step` numbers apart.

    The memory is a file with holes: it takes room for those pages alone that are written.
    """

    def spread(rows: Tensor, step: int) -> Tensor:
        size = step * (rows.shape[0] - 1) + rows.shape[1]
        storage = torch.from_file(str(tmp_path / "holes"), shared=True, size=size, dtype=rows.dtype)
        view = storage.as_strided(rows.shape, (step, 1))
        view.copy_(rows)
        return view

    return spread
