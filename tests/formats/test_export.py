"""A model and a mask become a file; the model stays as it is."""

from __future__ import annotations

import copy

import pytest
import safetensors.torch
import torch
from torch import nn

import optprune_fast as opf
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import patterns
from optprune_fast.formats.choose import choose
from optprune_fast.formats.file import read
from optprune_fast.formats.report import inspect_file


class Tied(nn.Module):
    """A convolution, a norm with buffers, an embedding that is tied to the last layer, a head that is not pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5)
        self.norm = nn.BatchNorm2d(8)
        self.embed = nn.Embedding(100, 64)
        self.decode = nn.Linear(64, 100)
        self.decode.weight = self.embed.weight
        self.head = nn.Linear(64, 10)
        self.register_buffer("passing", torch.ones(2), persistent=False)


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tied()


def pruned(net, sparsity=0.9):
    layout = opf.MaskLayout.of(net, exclude="head")
    generator = torch.Generator().manual_seed(0)
    return opf.PackedMasks.from_dense(
        layout, {x.name: torch.rand(1, *x.shape, generator=generator) > sparsity for x in layout})


def expected(net, mask):
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for layer in mask.layout:
        for name in (layer.name, *layer.aliases):
            state[name][~mask.to_dense()[layer.name][0]] = 0
    return state


def read_state(path):
    with read(path) as file:
        found = {}
        for name, entry in file.entries.items():
            found |= dict.fromkeys((name, *entry.aliases), file[name].to_dense())
        return found


@pytest.mark.parametrize("target", ["cpu", "gpu", "disk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_everything_comes_back_and_the_model_stays(net, target, dtype, tmp_path) -> None:
    net = net.to(dtype)
    mask, before = pruned(net), copy.deepcopy(net.state_dict())
    report = opf.export(net, mask, tmp_path / "a", target=target, values="exponent")
    found, state = read_state(tmp_path / "a"), expected(net, mask)
    assert found.keys() == state.keys()
    assert all(torch.equal(patterns(found[name]), patterns(state[name])) for name in state)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    assert inspect_file(tmp_path / "a") == report
    assert report.file_bytes == (tmp_path / "a").stat().st_size
    assert report.dense_bytes == sum(t.nbytes for name, t in state.items() if name != "decode.weight")
    assert {layer.name: layer.kept for layer in report.layers} == {
        x.name: int(mask.to_dense()[x.name].sum()) for x in mask.layout}


def test_tied_weights_stand_there_once(net, tmp_path) -> None:
    opf.export(net, pruned(net), tmp_path / "a")
    with read(tmp_path / "a") as file:
        assert file.entries["embed.weight"].aliases == ("decode.weight",)
        assert "decode.weight" not in file.entries
        assert file.metadata["layout"] == pruned(net).layout.to_json()


def test_dense_files_load_everywhere(net, tmp_path) -> None:
    mask = pruned(net)
    report = opf.export(net, mask, tmp_path / "a.safetensors", format="dense")
    assert report.layers == ()
    other = Tied()
    assert safetensors.torch.load_model(other, tmp_path / "a.safetensors") == (set(), [])
    state = expected(net, mask)
    assert all(torch.equal(other.state_dict()[name], state[name]) for name in state)
    assert not torch.signbit(other.conv.weight[other.conv.weight == 0]).any()


@pytest.mark.parametrize("format", ["bitmask", "tiled_index", "csr", "delta_csr", "entropy"])
def test_one_format_can_be_asked_for(format, net, tmp_path) -> None:
    report = opf.export(net, pruned(net), tmp_path / "a", format=format)
    assert {layer.format for layer in report.layers} == {format}


def test_auto_takes_the_smallest_that_the_target_runs(made) -> None:
    weight = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0))
    draw = torch.rand(64, 1024, generator=torch.Generator().manual_seed(1))
    names = {density: choose(Bitmask.of(weight, made.words(draw < density))).name for density in (1, 0.5, 0.2, 0.05)}
    assert names == {1: "dense", 0.5: "bitmask", 0.2: "bitmask", 0.05: "tiled_index"}
    half = Bitmask.of(weight.bfloat16(), made.words(draw < 0.5))
    assert choose(half, values="exponent").coded
    assert choose(half, "disk").name == "entropy"
    assert choose(Bitmask.of(weight, made.words(torch.arange(1024).expand(64, 1024) % 4 < 2)), "gpu").name == "two_four"
    spread = Bitmask.of(made.weight((64, 1024), torch.bfloat16), made.words(draw < 0.5))
    assert not choose(spread, values="exponent").coded  # escapes would cost more than they save


@pytest.mark.parametrize(("dtype", "values", "bars"), [
    (torch.float32, "raw", {0.5: 0.54, 0.8: 0.24, 0.9: 0.14, 0.95: 0.085, 0.98: 0.055}),
    (torch.bfloat16, "raw", {0.5: 0.57, 0.8: 0.27, 0.9: 0.17, 0.95: 0.12, 0.98: 0.085}),
    (torch.float16, "raw", {0.5: 0.57, 0.8: 0.27, 0.9: 0.17, 0.95: 0.12, 0.98: 0.085}),
    (torch.bfloat16, "exponent", {0.5: 0.40, 0.8: 0.20, 0.9: 0.13}),
    (torch.float16, "exponent", {0.5: 0.48, 0.8: 0.23, 0.9: 0.15}),
])
def test_memory_of_a_layer_against_dense(dtype, values, bars, made) -> None:
    weight = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0))
    for sparsity, bar in bars.items():
        kept = weight.abs() > weight.abs().flatten().kthvalue(round(sparsity * weight.numel())).values
        held = choose(Bitmask.of(weight.to(dtype), made.words(kept)), values=values)
        assert held.nbytes <= bar * weight.numel() * dtype.itemsize, (sparsity, held)


def test_what_cannot_be_exported_is_refused(net, tmp_path, monkeypatch) -> None:
    mask = pruned(net)
    with pytest.raises(ValueError, match="one mask at a time"):
        opf.export(net, opf.PackedMasks.cat([mask, mask]), tmp_path / "a")
    with pytest.raises(ValueError, match="target must be one of cpu, gpu, disk"):
        opf.export(net, mask, tmp_path / "a", target="tpu")
    with pytest.raises(ValueError, match=r"format must be one of auto, dense, bitmask, .*, sparse-24-bitmask"):
        opf.export(net, mask, tmp_path / "a", format="zip")
    with pytest.raises(ValueError, match="values must be raw or exponent"):
        opf.export(net, mask, tmp_path / "a", values="int4")
    with pytest.raises(ValueError, match=r"export: conv\.weight cannot be written in this format: two_four: at most 2"):
        opf.export(net, opf.PackedMasks.full(mask.layout), tmp_path / "a", format="two_four")
    with pytest.raises(ValueError, match="the model does not have this layout's parameters"):
        opf.export(nn.Linear(3, 2), mask, tmp_path / "a")
    monkeypatch.setattr(Tied, "get_extra_state", lambda self: {"a": 1}, raising=False)
    with pytest.raises(TypeError, match="the model's state holds something that is no tensor"):
        opf.export(net, mask, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
