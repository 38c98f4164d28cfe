"""opf.load: from a file to sparse layers, whatever stands for the network, and little memory on the way."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import optprune_fast as opf
from benchmarks.deploy import memory
from optprune_fast.bench.memory import STATUS
from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.report import explain
from optprune_fast.models import LeNet5
from optprune_fast.runtime.errors import IntegrityError


def factory() -> nn.Module:
    return LeNet5(1, 28).eval()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return factory()


@pytest.fixture
def saved(model: nn.Module, tmp_path: Path) -> tuple[opf.PackedMasks, Path]:
    mask = opf.magnitude(model, sparsity=0.9).mask
    opf.export(model, mask, tmp_path / "net.safetensors")
    return mask, tmp_path / "net.safetensors"


@pytest.mark.parametrize("prefer", ["speed", "memory"])
@pytest.mark.parametrize("kind", ["factory", "meta", "model"])
def test_whatever_stands_for_the_network_the_outputs_are_those_of_convert(
        kind: str, prefer: str, model: nn.Module, saved: tuple[opf.PackedMasks, Path]) -> None:
    mask, path = saved
    with torch.device("meta"):
        meta = factory()
    other = factory()
    before = copy.deepcopy(other.state_dict())
    net = opf.load(path, {"factory": factory, "meta": meta, "model": other}[kind], prefer=prefer)
    x = torch.randn(2, 1, 28, 28)
    expected = opf.convert(model, mask, prefer=prefer)
    assert torch.equal(net(x), expected(x))
    assert explain(net) == explain(expected)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), other.state_dict().values(), strict=True))
    assert all(p.is_meta for p in meta.parameters())


@pytest.mark.parametrize("form", ["dense", "bitmask", "tiled_index", "csr", "delta_csr", "entropy"])
def test_every_format_of_a_file_is_taken(form: str, model: nn.Module, tmp_path: Path) -> None:
    mask = opf.magnitude(model, sparsity=0.8).mask
    opf.export(model, mask, tmp_path / "net.safetensors", format=form)
    net = opf.load(tmp_path / "net.safetensors", factory, prefer="memory")
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(net(x), opf.convert(model, mask, prefer="memory")(x))
    assert any(isinstance(m, SparseLayer) for m in net.modules()) is (form != "dense")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_coded_values_are_taken(dtype: torch.dtype, model: nn.Module, tmp_path: Path) -> None:
    model = model.to(dtype)
    mask = opf.magnitude(model, sparsity=0.8).mask
    opf.export(model, mask, tmp_path / "net.safetensors", values="exponent")
    net = opf.load(tmp_path / "net.safetensors", factory, prefer="memory")
    x = torch.randn(2, 1, 28, 28).to(dtype)
    assert torch.equal(net(x), opf.convert(model, mask, prefer="memory")(x))


class Tied(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        if tied:
            self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.second(self.first(x)))
        return out


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_that_are_tied_in_the_file_are_tied_in_the_network(tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Tied().eval()
    opf.export(model, opf.magnitude(model, sparsity=0.9).mask, tmp_path / "net.safetensors")
    net = opf.load(tmp_path / "net.safetensors", lambda: Tied(tied).eval(), prefer="memory")
    assert net.second.weight is net.first.weight
    assert net(torch.randn(3, 64)).shape == (3, 64)
    assert net.norm.num_batches_tracked.dtype == torch.int64


class WithConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) * self.scale
        return out


def test_a_buffer_that_no_file_holds_must_come_with_the_model(tmp_path: Path) -> None:
    model = WithConstant()
    opf.export(model, opf.magnitude(model, sparsity=0.9).mask, tmp_path / "net.safetensors")
    net = opf.load(tmp_path / "net.safetensors", WithConstant(), prefer="memory")
    x = torch.randn(2, 64)
    torch.testing.assert_close(net(x), opf.convert(model, opf.magnitude(model, sparsity=0.9).mask)(x))
    with pytest.raises(ValueError, match=r"in no state dict, so no file holds them[\s\S]*scale[\s\S]*pass a model"):
        opf.load(tmp_path / "net.safetensors", WithConstant)


def test_another_network_is_refused(saved: tuple[opf.PackedMasks, Path]) -> None:
    _, path = saved
    with pytest.raises(ValueError, match=r"not this model's[\s\S]*missing  \['weight'\]"):
        opf.load(path, lambda: nn.Linear(3, 3, bias=False))
    with pytest.raises(ValueError, match="another shape than the model's"):
        opf.load(path, lambda: LeNet5(3, 28))
    with pytest.raises(TypeError, match="the factory must return a model"):
        opf.load(path, lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="prefer must be one of"):
        opf.load(path, factory, prefer="size")


def test_a_damaged_file_is_refused(saved: tuple[opf.PackedMasks, Path]) -> None:
    _, path = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        opf.load(path, factory)
    with pytest.raises(FileNotFoundError):
        opf.load(path.with_name("none"), factory)


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell how much memory a process has")
@pytest.mark.parametrize(("dtype", "sparsity"), [("float32", 0.9), ("float16", 0.5)])
def test_loading_takes_little_more_memory_than_what_is_loaded(dtype: str, sparsity: float, tmp_path: Path) -> None:
    """The process at its highest: at most 1.15 times the compressed size and one layer of three, dense."""
    model = memory.network(memory.WIDTH, dtype)
    opf.export(model, opf.magnitude(model, sparsity=sparsity).mask, tmp_path / "net.safetensors")
    del model
    found = memory.in_fresh_process(str(tmp_path / "net.safetensors"), memory.WIDTH, dtype)
    assert found["dense_bytes"] > 90 << 20
    assert found["tensor_bytes"] < found["peak_bytes"] <= memory.bar(found)
