"""The CUDA kernels compile without spills, and the module that holds them asks nothing of a machine without a GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optprune_fast.ops.cuda_support import KINDS
from optprune_fast.runtime import cuda
from optprune_fast.testing.aot import read

ROOT = Path(__file__).parents[2]
KERNELS = sorted(ROOT.glob("csrc/kernels/*/cuda.cu"))
SM90A = ROOT / "csrc/kernels/masked_linear/cuda_sm90a.cu"
FOR_SM90A = "-gencode=arch=compute_90a,code=sm_90a"
NVCC = os.environ.get("CUDACXX") or shutil.which("nvcc")
# What the machine code of an operation must have, and how often at least.
INSTRUCTIONS = {
    # two types by two ways of copying: 16 products for each 16 of a step's 32 columns, their fragments, and where rows
    # allow it three places that copy a step, 16 bytes at a time, 4 of x and 2 of weight a thread
    "masked_linear": {r"HMMA\.16816\.F32$": 2 * 32, r"HMMA\.16816\.F32\.BF16$": 2 * 32, r"LDSM\.16\.M88\.4$": 4 * 2 * 6,
                      r"LDGSTS.*\.128(\.ZFILL)?$": 2 * 3 * 6, r"FFMA$": 4 * 16},
    # two types by two layouts: for 16, 32 and 64 samples 1, 2 and 4 products of a warp for each 16 of a step's columns;
    # their fragments: 4 of the weight, and one for two products. x by 16 bytes, and by 8 in the kernels for few
    "rows_linear": {r"HMMA\.16816\.F32$": 2 * 28, r"HMMA\.16816\.F32\.BF16$": 2 * 28, r"LDSM\.16\.M88\.4$": 4 * 26,
                    r"LDG\.E\.128": 4 * 3, r"LDG\.E\.64": 2 * 3, r"FFMA$": 2 * 4 * 16},
    # loads of 16 bytes: a tile in two forms of mark and in exact_digit, 8 of float32 and 4 of each 16-bit type
    "topk_threshold": {r"LDG\.E\.(LTC128B\.)?128": 3 * (8 + 4 + 4)},
}
MOST_REGISTERS = 128  # two blocks of 256 threads on a multiprocessor, four of 128: some multiply while others load

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no nvcc: CUDACXX names none and PATH has none")
needs_module = pytest.mark.skipif(cuda._load()[0] is None, reason=f"optprune_fast._cuda: {cuda._load()[1]}")


def compile_cuda(source: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert NVCC is not None
    return subprocess.run(
        [NVCC, "-std=c++17", "-I", ROOT / "csrc", source, "-o", out, "-Xptxas=-v,-warn-spills,-warn-lmem-usage,-Werror",
         *flags], capture_output=True, text=True, check=False)


@needs_nvcc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.parent.name)
def test_a_kernel_does_not_spill(source, architecture, tmp_path):
    run = compile_cuda(source, tmp_path / "kernel.cubin", f"-arch={architecture}", "-cubin")
    assert run.returncode == 0, run.stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", run.stderr)
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", run.stderr)]
    assert len(spills) == len(registers) > 0
    assert set(spills) == {("0", "0", "0")}
    assert max(registers) <= MOST_REGISTERS
    code = read((tmp_path / "kernel.cubin").read_bytes()).instructions
    for opcode, times in INSTRUCTIONS.get(source.parent.name, {}).items():
        assert sum(n for name, n in code.items() if re.match(opcode, name)) >= times, opcode


@needs_nvcc
def test_the_kernel_of_warpgroups_does_not_spill_and_its_products_run_beside_the_threads(tmp_path):
    run = compile_cuda(SM90A, tmp_path / "kernel.cubin", FOR_SM90A, "-cubin")
    assert run.returncode == 0, run.stderr
    assert "serialized" not in run.stderr  # what ptxas says where it waits for each product
    assert {int(number) for number in re.findall(r"(\d+) bytes spill", run.stderr)} == {0}
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", run.stderr)]
    assert len(registers) == 4  # two types, 128 and 256 samples
    assert sorted(registers)[1] <= MOST_REGISTERS  # two blocks of 256 threads on a multiprocessor; of 256 samples one
    assert max(registers) < 255
    code = read((tmp_path / "kernel.cubin").read_bytes()).instructions
    for opcode in (r"HGMMA\.64x128x16\.F32$", r"HGMMA\.64x128x16\.F32\.BF16$"):  # 64 columns a step: 4 products, and 8
        assert sum(n for name, n in code.items() if re.match(opcode, name)) >= 12, opcode
    for opcode in (r"LDSM", r"STSM", r"LDGSTS.*\.128"):
        assert any(re.match(opcode, name) for name in code), opcode


@needs_nvcc
@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.parent.name)
def test_a_kernel_compiles_for_a_card_without_its_instructions(source, tmp_path):
    """Where CUDAARCHS asks for older cards, too, what they lack is left out."""
    run = compile_cuda(source, tmp_path / "kernel.cubin", "-arch=sm_75", "-cubin")
    assert run.returncode == 0, run.stderr


@needs_nvcc
def test_the_gate_sees_memory_in_the_place_of_registers(tmp_path):
    (tmp_path / "local.cu").write_text(
        "__global__ void local(float *x, int n) {\n"
        "  float copy[300];\n"
        "  for (int i = 0; i < 300; ++i) copy[i] = x[i];\n"
        "  for (int i = 0; i < 300; ++i) copy[i * n % 300] += x[i];\n"
        "  x[0] = copy[n];\n"
        "}\n")
    run = compile_cuda(tmp_path / "local.cu", tmp_path / "kernel.cubin", "-arch=sm_80", "-cubin")
    assert run.returncode != 0
    assert "local memory" in run.stderr.lower()


@needs_nvcc
@pytest.mark.parametrize("source", [*KERNELS, *sorted(ROOT.glob("csrc/common/*.cu"))], ids=lambda path: path.stem)
def test_host_code_compiles_without_a_warning(source, tmp_path):
    run = compile_cuda(source, tmp_path / "host.o", "-arch=compute_80", "-c", "-Xcompiler=-Wall,-Wextra,-Werror")
    assert run.returncode == 0, run.stderr


def test_there_is_a_kernel_to_check():
    assert [path.parent.name for path in KERNELS] == ["choose_bits", "masked_linear", "rows_linear", "topk_threshold"]


@needs_module
def test_the_module_has_every_kernel_that_there_is_a_file_for():
    assert list(cuda.module().operations) == [path.parent.name for path in KERNELS]


@needs_module
@pytest.mark.skipif(sys.platform != "linux", reason="ldd is a tool of Linux")
def test_the_module_needs_no_cuda_library():
    libraries = subprocess.run(["ldd", cuda.module().__file__], capture_output=True, text=True, check=True).stdout
    assert "libstdc++" in libraries
    assert "libcuda" not in libraries
    assert "torch" not in libraries


@needs_module
def test_the_module_holds_code_for_the_cards_that_are_checked():
    assert {80, 90} <= set(cuda.module().architectures())
    assert cuda.module().runtime_version() >= 12000


@needs_module
@pytest.mark.skipif(cuda._load()[0] is not None and cuda.module().device_count() > 0, reason="this machine has a GPU")
@pytest.mark.parametrize("kind", KINDS.values(), ids=map(str, KINDS))
def test_without_a_device_the_module_says_so_and_a_launch_raises(kind):
    module = cuda.module()
    assert re.search("driver version is insufficient|no CUDA-capable device", module.device_error())
    assert module.device_error() in cuda.missing("masked_linear")
    with pytest.raises(RuntimeError, match=r"^masked_linear: .*(driver version is insufficient|no CUDA-capable)"):
        module.masked_linear(0, 0, int(kind > 0), kind, *[0] * 4, 1, 1, 1, 1, *[1] * 5)
    module.masked_linear(0, 0, int(kind > 0), kind, *[0] * 4, 0, 1, 1, 1, *[1] * 5)  # nothing to do: nothing to launch
    with pytest.raises(RuntimeError, match=r"^choose_bits: .*(driver version is insufficient|no CUDA-capable)"):
        module.choose_bits(0, 0, *[0] * 4, 1, 1, 1)
    module.choose_bits(0, 0, *[0] * 4, 0, 1, 1)
    with pytest.raises(RuntimeError, match=r"^rows_linear: .*(driver version is insufficient|no CUDA-capable)"):
        module.rows_linear(0, 0, kind, *[0] * 7, 1, 1, 1, 1, False, False)
    module.rows_linear(0, 0, kind, *[0] * 7, 0, 1, 1, 1, False, False)
    with pytest.raises(RuntimeError, match=r"^topk_threshold: .*(driver version is insufficient|no CUDA-capable)"):
        module.topk_threshold(0, 0, 1, *[0] * 8, 1, 1, 1, False, False)
