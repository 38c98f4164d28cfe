"""Without a GPU the implementations for one say why they cannot serve, from metadata alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from optprune_fast.ops import cuda_support, triton_support
from optprune_fast.ops.masked_linear import cuda_impl, masked_linear, triton_impl
from optprune_fast.runtime import compiled as loading
from optprune_fast.runtime import cuda, triton
from optprune_fast.runtime.errors import BackendError
from optprune_fast.version import __version__


class OnDevice:
    """What a tensor on a CUDA device shows of itself."""

    device = torch.device("cuda", 0)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


@pytest.fixture
def card(monkeypatch):
    """A function that makes a card of some compute capability appear."""
    monkeypatch.setattr(triton, "interpreted", lambda: False)
    return lambda *capability: monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def module(**facts: object) -> SimpleNamespace:
    """A compiled module that finds such things on the machine."""
    facts = {"count": 1, "error": "", "driver": 13000, "version": __version__, "architectures": [75, 80, 90], **facts}
    return SimpleNamespace(
        operations=("masked_linear",), version=facts["version"], device_count=lambda: facts["count"],
        device_error=lambda: facts["error"], runtime_version=lambda: 13000, driver_version=lambda: facts["driver"],
        architectures=lambda: facts["architectures"])


@pytest.fixture
def compiled(monkeypatch):
    """A function that puts something in the place of the import of `_cuda`."""

    def clear() -> None:
        cuda._load.cache_clear()
        cuda._no_device.cache_clear()

    def put(outcome: object) -> None:
        def found(name: str) -> object:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(loading, "importlib", SimpleNamespace(import_module=found))
        clear()

    yield put
    monkeypatch.undo()
    clear()


def test_a_missing_cuda_module_says_how_to_get_it(compiled):
    compiled(ModuleNotFoundError("no", name=cuda.MODULE))
    assert "no nvcc worked" in cuda.missing()
    assert "OPTPRUNE_CUDA=ON pip install" in cuda.missing()
    with pytest.raises(BackendError, match="no nvcc worked"):
        cuda.module()


def test_a_cuda_module_that_does_not_load_says_why(compiled):
    compiled(ImportError("undefined symbol: x"))
    assert "does not load (undefined symbol: x)" in cuda.missing()


def test_a_broken_import_inside_the_cuda_module_passes_through(compiled):
    compiled(ModuleNotFoundError("no", name="something_else"))
    with pytest.raises(ModuleNotFoundError):
        cuda.missing()


def test_a_cuda_module_of_another_version_is_refused(compiled):
    compiled(module(version="0.0.0"))
    with pytest.raises(BackendError, match="another version of the package"):
        cuda.missing()


def test_an_old_driver_is_named_with_the_version_it_serves(compiled):
    compiled(module(count=0, error="CUDA driver version is insufficient for CUDA runtime version", driver=12080))
    assert cuda.missing("masked_linear") == (
        "the CUDA module finds no device: CUDA driver version is insufficient for CUDA runtime version "
        "(it needs a driver for CUDA 13.0, the driver here serves 12.8)")


def test_a_machine_without_a_driver_is_told_so(compiled):
    compiled(module(count=0, error="no CUDA-capable device is detected", driver=0))
    assert cuda.missing().endswith("(it needs a driver for CUDA 13.0, there is no driver here)")


def test_a_kernel_that_was_not_compiled_is_missing(compiled):
    compiled(module())
    assert cuda.missing("masked_linear") is None
    assert "has no masked_conv3d" in cuda.missing("masked_conv3d")


@pytest.mark.parametrize(("x", "reason"), [
    (torch.zeros(1), "needs tensors on a CUDA device, not on cpu"),
    (torch.zeros(1, dtype=torch.float64), "takes float32 or bfloat16 or float16, not float64"),
    (OnDevice(torch.float32), None),
    (OnDevice(torch.float16), "needs compute capability 8.0, this device has 7.5"),
])
def test_cuda_declines(compiled, card, x, reason):
    compiled(module())
    card(7, 5)
    assert cuda_impl.declines(x, x, x) == reason


def test_cuda_declines_a_card_older_than_its_code(compiled, card):
    compiled(module())
    card(7, 0)
    x = OnDevice(torch.float32)
    assert cuda_impl.declines(x, x, x) == "needs compute capability 7.5, this device has 7.0"


@pytest.mark.parametrize(("built_for", "reason"), [
    ([75], "was built for compute capability 7.5 and older, 16-bit types need code for 8.0; CUDAARCHS=80 when building "
           "adds it"),
    ([75, 90], "needs compute capability 9.0, this device has 8.6"),
    ([75, 80], None),
])
def test_tensor_cores_need_code_that_was_built_for_them(compiled, card, built_for, reason):
    """What was built for 7.5 and is translated for a newer card still lacks the instructions."""
    compiled(module(architectures=built_for))
    card(8, 6)
    x = OnDevice(torch.bfloat16)
    assert cuda_impl.declines(x, x, x) == reason


@pytest.mark.parametrize(("x", "reason"), [
    (torch.zeros(1), "needs tensors on a CUDA device, not on cpu"),
    (torch.zeros(1, dtype=torch.float64), "takes float32 or float16 or bfloat16, not float64"),
    (OnDevice(torch.bfloat16), None),
])
def test_triton_declines(card, x, reason):
    card(8, 0)
    assert triton_impl.declines(x, x, x) == reason


def test_triton_declines_a_card_that_its_launches_are_not_checked_for(card):
    card(7, 5)
    x = OnDevice(torch.float16)
    assert triton_impl.declines(x, x, x) == (
        "needs compute capability 8.0, this device has 7.5; on older ones backend='cuda' serves float32 linear layers, "
        "and backend='torch' everything")


@pytest.mark.parametrize(("capability", "kind"), [((8, 0), "ampere"), ((8, 9), "ampere"), ((9, 0), "hopper"),
                                                  ((10, 0), "blackwell"), ((10, 3), "blackwell"),
                                                  ((12, 0), "rtx-blackwell"), ((12, 1), "rtx-blackwell")])
def test_launches_go_by_the_kind_of_gpu(card, capability, kind):
    card(*capability)
    assert triton_support.family(OnDevice.device) == kind
    for shape in ("narrow", "wide"):
        for arithmetic in ("fp32", "tf32", "tf32x3", "16-bit"):
            assert (arithmetic, shape) in triton_support.LAUNCHES[kind]


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_a_backend_asked_for_by_name_refuses_cpu_tensors(backend):
    with pytest.raises(BackendError, match=rf"backend='{backend}' cannot serve\n.*float32\[1, 1\] cpu"):
        masked_linear(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1, 1, dtype=torch.int64), backend=backend)


@pytest.fixture
def no_device(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    triton.missing.cache_clear()
    yield monkeypatch
    triton.missing.cache_clear()


def test_triton_without_a_device_says_so(no_device):
    no_device.setattr(torch.version, "cuda", "13.0")
    assert "torch sees no CUDA device" in triton.missing()


def test_triton_with_a_torch_for_cpus_says_so(no_device):
    no_device.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in triton.missing()


def test_triton_that_cannot_be_imported_says_how_to_get_it(no_device):
    no_device.setattr(torch.cuda, "is_available", lambda: True)
    no_device.setitem(__import__("sys").modules, "triton", None)
    assert "pip install triton" in triton.missing()


@pytest.mark.parametrize(("versions", "fault"), [
    (("3.6.0", "2.4.1"), "Triton 3.6 needs numpy below 2.4"), (("3.6.0", "2.3.5"), None), (("3.9.0", "2.5.0"), None)])
def test_an_interpreter_that_cannot_run_loops_is_known(monkeypatch, versions, fault):
    monkeypatch.setattr(triton.metadata, "version", dict(zip(("triton", "numpy"), versions, strict=True)).get)
    found = triton.interpreter_fault()
    assert found is None if fault is None else fault in found


def test_offsets_are_wide_where_an_element_lies_beyond_32_bits():
    def wide(shape, steps=None):
        tensor = torch.empty(shape, device="meta")
        return cuda_support.needs_wide_offsets(tensor if steps is None else tensor.as_strided(shape, steps))

    assert not wide((2**10, 2**20))
    assert wide((2**11, 2**20))
    assert not wide((5, 3), (0, 1))
    assert not wide((0, 2**40))
    # A tile may start on the last row and count on to the end of the tile.
    assert wide((2**31 - 100,))
    storage = torch.empty(2**33, device="meta")
    assert cuda_support.needs_wide_offsets(torch.empty(3), storage.as_strided((2, 1), (2**31, 1)))
    assert not cuda_support.needs_wide_offsets(storage.as_strided((1, 1), (2**31, 1)))


def test_rows_that_are_not_neighbours_are_copied():
    x = torch.arange(6.0).view(2, 3)
    assert cuda_support.with_unit_steps(x) is x
    assert cuda_support.with_unit_steps(x.T).stride() == (2, 1)
    assert torch.equal(cuda_support.with_unit_steps(x.T), x.T)


@pytest.mark.parametrize("backend", ["native", "numba", "cuda", "torch"])
def test_a_precision_is_refused_where_there_is_no_choice(backend):
    x, words = torch.ones(1, 1), torch.ones(1, 1, 1, dtype=torch.int64)
    with pytest.raises(BackendError, match=f"{backend}: has no choice of precision; leave it out"):
        masked_linear(x, x, words, backend=backend, precision="tf32")


def test_a_precision_without_a_gpu_names_what_has_the_choice_and_why_it_does_not_run(no_device):
    x, words = torch.ones(1, 1), torch.ones(1, 1, 1, dtype=torch.int64)
    with pytest.raises(BackendError, match=r"(?s)triton: .*torch: has no choice of precision"):
        masked_linear(x, x, words, precision="bf16")


def test_a_name_that_is_no_precision_is_refused_by_the_list():
    x, words = torch.ones(1, 1), torch.ones(1, 1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="precision must be one of fp32, tf32x3, tf32, fp16, bf16"):
        masked_linear(x, x, words, precision="half")
