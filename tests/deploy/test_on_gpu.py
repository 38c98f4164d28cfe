"""Sparse layers on a GPU, as far as a CPU tells: here it is taken for one, so weights lie in rows and run in torch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import optprune_fast as opf
from optprune_fast.deploy import gpu, two_four
from optprune_fast.deploy.chooser import choose
from optprune_fast.deploy.conv import SparseConv2d
from optprune_fast.deploy.linear import SparseLinear
from optprune_fast.deploy.report import explain
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.formats.file import read
from optprune_fast.ops import rows_linear
from optprune_fast.ops.rows import Rows
from optprune_fast.ops.words import pack
from tests.deploy.pairs import pair

pytestmark = pytest.mark.filterwarnings("ignore:rows_linear runs in plain torch")
CODED = pytest.mark.parametrize("coded", [False, True], ids=["index", "bitmask"])
CUDA = torch.device("cuda")
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(300, 9), (3, 300)),
    "linear-no-bias": (lambda: nn.Linear(70, 9, bias=False), (2, 4, 70)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=3, dilation=2, groups=2), (2, 4, 30)),
    "conv1d-one-tap": (lambda: nn.Conv1d(5, 6, 1, stride=3), (2, 5, 30)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 4, 9, 8)),
    "conv2d-same": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same", padding_mode="reflect"), (2, 4, 9, 8)),
    "conv2d-one-tap": (lambda: nn.Conv2d(5, 6, 1, stride=(2, 1), bias=False), (2, 5, 9, 8)),
    "conv2d-one-tap-padded": (lambda: nn.Conv2d(4, 6, 1, padding=1), (2, 4, 9, 8)),
    "depthwise-one-tap": (lambda: nn.Conv2d(4, 8, 1, groups=4), (2, 4, 9, 8)),
}
BY_LAYER = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture
def as_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """as_gpu(whether the CPU is taken for a GPU from now on)"""
    def take(yes: bool) -> None:
        monkeypatch.setattr(gpu, "serves", lambda device: yes)

    return take


def weight_of(kept: Tensor, *, coded: bool | None = None, dtype: torch.dtype = torch.float32) -> SparseWeight:
    values = torch.randn(int(kept.sum()), generator=torch.Generator().manual_seed(3)).to(dtype)
    return SparseWeight.of(pack(kept), values, kept.shape, coded=coded)


def drawn(rows: int, columns: int, density: float = 0.3) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(5)) < density


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


KEPT = {"odd": drawn(11, 321), "one": torch.ones(1, 1, dtype=torch.bool), "all": torch.ones(3, 260, dtype=torch.bool),
        "none": torch.zeros(3, 260, dtype=torch.bool), "no-rows": drawn(0, 70), "no-columns": drawn(3, 0),
        "empty-rows": drawn(9, 513) & (torch.arange(9)[:, None] % 2 == 0)}


@CODED
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT.keys())
def test_there_and_back_every_bit_is_the_same(kept: Tensor, dtype: torch.dtype, coded: bool,
                                              as_gpu: Callable[[bool], None]) -> None:
    as_gpu(False)
    weight = weight_of(kept, coded=coded, dtype=dtype)
    before, dense = copy.deepcopy(weight.planes), weight.to_dense()
    as_gpu(True)
    weight.to("cpu")
    assert isinstance(weight.planes, Rows)
    assert {name for name, _ in weight.named_buffers()} == set(Rows._fields)  # and nothing else is held
    assert torch.equal(weight.to_dense(), dense)
    assert weight.format == ("bitmask" if coded else "index")
    assert weight.nbytes == gpu.nbytes(*kept.shape, int(kept.sum()), dtype.itemsize, coded=coded)
    made_there = weight_of(kept, coded=coded, dtype=dtype)
    assert same(made_there.planes, weight.planes)
    as_gpu(False)
    assert same(weight.to("cpu").planes, before)


def test_the_layout_is_changed_once(as_gpu: Callable[[bool], None]) -> None:
    as_gpu(False)
    layer = SparseLinear(weight_of(drawn(9, 70)))
    as_gpu(True)
    layer.to("cpu")
    values = layer.weight.values
    assert layer.to("cpu").weight.values is values
    assert layer.half().weight.in_rows
    assert layer.weight.dtype == torch.float16


@CODED
@BY_LAYER
def test_it_computes_what_torch_computes(name: str, coded: bool, as_gpu: Callable[[bool], None]) -> None:
    as_gpu(True)
    dense, sparse, x = pair(*LAYERS[name], coded=coded)
    assert sparse.weight.in_rows
    torch.testing.assert_close(sparse(x), dense(x))
    with torch.no_grad():
        torch.testing.assert_close(sparse(x), dense(x))
    assert torch.equal(sparse.to_dense().weight, dense.weight)
    x.requires_grad_()
    [ours], [torchs] = (torch.autograd.grad(layer(x).square().sum(), [x]) for layer in (sparse, dense))
    torch.testing.assert_close(ours, torchs)


@CODED
def test_a_state_dict_is_that_of_a_cpu(coded: bool, as_gpu: Callable[[bool], None]) -> None:
    as_gpu(False)
    on_cpu = SparseLinear(weight_of(drawn(9, 300), coded=coded))
    as_gpu(True)
    on_gpu = copy.deepcopy(on_cpu).to("cpu")
    ours, theirs = on_gpu.state_dict(), on_cpu.state_dict()
    assert list(ours) == list(theirs)
    assert same(ours.values(), theirs.values())
    other = SparseLinear(weight_of(drawn(9, 300, 0.6), coded=not coded)).half()
    other.load_state_dict(theirs)
    assert other.weight.in_rows
    assert same(other.weight.planes, on_gpu.half().weight.planes)
    theirs["weight.starts"] = theirs["weight.starts"] + 1
    with pytest.raises(ValueError, match=r"weight.load_state_dict: starts must lead from 0"):
        other.load_state_dict(theirs)


def test_copies_have_memory_of_their_own(as_gpu: Callable[[bool], None]) -> None:
    as_gpu(True)
    layer, x = SparseLinear(weight_of(drawn(9, 300))), torch.ones(2, 300)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(again(x), layer(x))
        again.weight.values.zero_()
        assert not torch.equal(again(x), layer(x))


def test_from_the_meta_device_it_is_filled_by_a_state_dict(as_gpu: Callable[[bool], None]) -> None:
    as_gpu(True)
    layer, x = SparseLinear(weight_of(drawn(9, 300))), torch.ones(2, 300)
    empty = copy.deepcopy(layer).to("meta")
    assert empty(x.to("meta")).shape == (2, 9)
    empty.to_empty(device="cpu").load_state_dict(layer.state_dict())
    assert torch.equal(empty(x), layer(x))


def test_compile_takes_it_whole(as_gpu: Callable[[bool], None]) -> None:
    as_gpu(True)
    layer, x = SparseLinear(weight_of(drawn(9, 300))), torch.ones(2, 300)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


@pytest.mark.parametrize(("sparsity", "most"), [(0.5, 0.57), (0.8, 0.27), (0.9, 0.155), (0.95, 0.08), (0.98, 0.035)])
def test_memory_of_16_bit_values_keeps_within_the_bounds(sparsity: float, most: float,
                                                         as_gpu: Callable[[bool], None]) -> None:
    as_gpu(True)
    kept = drawn(512, 4096, 1 - sparsity)
    weight = weight_of(kept, dtype=torch.bfloat16)
    assert weight.nbytes <= most * 2 * kept.numel()
    assert weight.format == ("index" if sparsity >= 0.9 else "bitmask")


# ---- what is chosen


@pytest.mark.parametrize(("module", "dtype", "share", "form", "why"), [
    (nn.Linear(512, 512), torch.bfloat16, 0.1, "index",
     "6.3 times fewer bytes to read than dense; no time was measured on a GPU"),
    (nn.Linear(512, 512), torch.bfloat16, 0.3, "bitmask", "2.7 times fewer bytes"),
    (nn.Linear(512, 512), torch.bfloat16, 0.5, "dense", "only 1.8 times fewer bytes to read than dense; no time was"),
    (nn.Linear(512, 512), torch.float32, 0.4, "bitmask", "2.3 times fewer bytes"),
    (nn.Linear(512, 512), torch.float64, 0.1, "dense", "no kernel for float64"),
    (nn.Conv2d(512, 512, 1), torch.bfloat16, 0.1, "dense", "no kernel for convolutions on a GPU"),
])
def test_speed_goes_by_bytes_and_says_that_no_time_was_measured(
        module: nn.Module, dtype: torch.dtype, share: float, form: str, why: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_linear.operation, "missing", lambda backend: None)
    like = torch.empty(512, 512, dtype=dtype, device="meta")
    choice = choose(module, like, int(share * like.numel()), "speed", device=CUDA)
    assert choice.format == form
    assert choice.why.startswith(why)


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_one_backend_for_gpus_suffices(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_linear.operation, "missing", lambda name: None if name == backend else "there is none")
    like = torch.empty(512, 512, dtype=torch.bfloat16, device="meta")
    assert choose(nn.Linear(512, 512), like, 9, "speed", device=CUDA).format == "index"


def test_without_any_speed_stays_dense_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_linear.operation, "missing", lambda backend: "there is none")
    like = torch.empty(512, 512, dtype=torch.bfloat16, device="meta")
    choice = choose(nn.Linear(512, 512), like, 9, "speed", device=CUDA)
    assert choice.format == "dense"
    assert choice.why == "no kernels for a GPU here: cuda: there is none; triton: there is none"


@pytest.mark.parametrize(("share", "two_of_four", "form"), [
    (0.1, False, "index"), (0.5, False, "bitmask"), (0.5, True, "two_four"), (0.2, True, "bitmask"),
    (1.0, False, "dense")])
def test_memory_takes_the_smallest(share: float, two_of_four: bool, form: str) -> None:
    like = torch.empty(512, 512, dtype=torch.bfloat16, device="meta")
    choice = choose(nn.Linear(512, 512), like, int(share * like.numel()), "memory", device=CUDA,
                    two_of_four=two_of_four)
    assert choice.format == form


@pytest.mark.parametrize(("module", "shape", "dtype"), [
    (nn.Linear(64, 32), (32, 64), torch.float32), (nn.Linear(48, 32), (32, 48), torch.float16),
    (nn.Linear(64, 30), (30, 64), torch.float16), (nn.Conv1d(64, 32, 1), (32, 64), torch.float16)])
def test_torch_does_not_have_two_of_four_for_everything(module: nn.Module, shape: tuple[int, int],
                                                        dtype: torch.dtype) -> None:
    assert not two_four.takes(module, torch.empty(shape, dtype=dtype))
    assert two_four.takes(nn.Linear(64, 32), torch.empty(32, 64, dtype=torch.bfloat16))


class Tied(nn.Module):
    """Two linear layers that share a weight, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.conv = nn.Linear(64, 64), nn.Linear(64, 64), nn.Conv2d(4, 8, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.second(self.first(x)).view(-1, 4, 4, 4))
        return out


@pytest.fixture
def tied() -> nn.Module:
    torch.manual_seed(2)
    return Tied().to(torch.bfloat16).requires_grad_(False)


@pytest.mark.parametrize("scope", ["uniform", "2:4"])
def test_a_file_for_a_gpu_is_loaded_as_it_was_converted(scope: str, tied: nn.Module, tmp_path: Path,
                                                        as_gpu: Callable[[bool], None],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[Tensor] = []

    def semi_structured(weight: Tensor) -> Tensor:
        packed.append(weight)
        return weight

    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", semi_structured)
    as_gpu(True)
    mask = opf.magnitude(tied, sparsity=0.5 if scope == "2:4" else 0.9, scope=scope).mask
    opf.export(tied, mask, tmp_path / "net.safetensors", target="gpu")
    with read(tmp_path / "net.safetensors") as file:
        form = file.entries["first.weight"].format
    assert form == ("two_four" if scope == "2:4" else "tiled_index")
    net, loaded = (opf.convert(tied, mask, prefer="memory"),
                   opf.load(tmp_path / "net.safetensors", tied, prefer="memory"))
    assert explain(net) == explain(loaded)
    held = {row.name: row.format for row in explain(net).rows}
    assert held["first.weight"] == ("two_four" if scope == "2:4" else "bitmask")  # narrow: tiles cost more
    assert len(packed) == (2 if scope == "2:4" else 0)
    assert net.second.weight is net.first.weight
    assert isinstance(loaded.conv, SparseConv2d)
    assert loaded.conv.weight.in_rows
    x = torch.randn(2, 64, dtype=torch.bfloat16)
    dense = copy.deepcopy(tied)
    for name, bits in mask.to_dense().items():
        dict(dense.named_parameters())[name].masked_fill_(~bits[0], 0.0)
    torch.testing.assert_close(net(x), dense(x), atol=0.02, rtol=0.02)
    assert torch.equal(loaded(x), net(x))
