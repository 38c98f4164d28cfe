"""The layouts of compressed-tensors, byte by byte."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch import nn

import optprune_fast as opf
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import patterns
from optprune_fast.formats.compressed_tensors import compress, config, decompress, read
from optprune_fast.runtime.errors import IntegrityError

LAYOUTS = ("sparse-bitmask", "sparse-24-bitmask")


def weight(made, layout, columns=20, dtype=torch.float32):
    shape = (6, columns)
    mask = made.masks(shape)["half"] if layout == "sparse-bitmask" else made.two_four(shape)
    dense = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    dense[0, :8] = torch.tensor([0.0, -0.0, math.nan, math.inf, -1, 1, 2, 3]).to(dtype)
    return Bitmask.of(dense, made.words(mask))


def test_the_tensors_are_those_of_the_published_layout() -> None:
    dense = torch.tensor([[1.0, 0, 0, 2, 0, 0, 0, 0, 3, 0], [0.0] * 10])
    bitmask = Bitmask.of(dense, torch.tensor([[0b100001001], [1]]))
    tensors, lost = compress(bitmask, "sparse-bitmask")
    assert tensors["shape"].tolist() == [2, 10]
    assert tensors["compressed"].tolist() == [1, 2, 3]
    assert tensors["bitmask"].tolist() == [[0b1001, 1], [0, 0]]
    assert (tensors["row_offsets"].tolist(), tensors["row_offsets"].dtype) == ([0, 3], torch.int64)
    assert lost == 1  # the kept zero of the second row
    fours = Bitmask.of(torch.tensor([[0.0, 5, 0, 6, 7, 0, 0, 8]]), torch.tensor([[0b10011010]]))
    tensors, _ = compress(fours, LAYOUTS[1])
    assert tensors["shape"].tolist() == [[1], [8]]
    assert tensors["compressed"].tolist() == [[5, 6, 7, 8]]
    assert tensors["bitmask"].tolist() == [[0b10011010]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_weights_come_back_but_for_kept_zeros(layout, dtype, made) -> None:
    for columns in (8, 20, 64, 68):
        bitmask = weight(made, layout, columns, dtype)
        tensors, lost = compress(bitmask, layout)
        back = decompress(tensors, layout)
        dense = bitmask.to_dense()
        dense[dense == 0] = 0  # -0.0 comes back as +0.0
        assert torch.equal(patterns(back.to_dense()), patterns(dense))
        assert lost == bitmask.nnz - int((dense != 0).sum())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_released_package_writes_the_same_bytes_and_reads_ours(layout, dtype, made) -> None:
    package = pytest.importorskip("compressed_tensors.compressors.sparse_compressors",
                                  reason="needs compressed-tensors 0.14, the last with sparse layouts")
    bitmask = weight(made, layout, 64, dtype)
    dense = bitmask.to_dense()
    kind = {LAYOUTS[0]: "BitmaskCompressor", LAYOUTS[1]: "Sparse24BitMaskCompressor"}[layout]
    compressor = getattr(package, kind)(config=SimpleNamespace(sparsity_structure="2:4"))
    theirs = compressor.compress({"a.weight": dense}, compression_targets={"a"})
    ours = {f"a.{last}": tensor for last, tensor in compress(bitmask, layout)[0].items()}
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        assert (tensor.dtype, tensor.shape) == (ours[name].dtype, ours[name].shape), name
        assert torch.equal(patterns(tensor.contiguous()), patterns(ours[name].contiguous())), name
    back = compressor.decompress_weight({name.removeprefix("a."): tensor for name, tensor in ours.items()})
    dense[dense == 0] = 0
    assert torch.equal(patterns(back), patterns(dense))


def test_a_model_is_written_for_others_and_losses_are_told(tmp_path) -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 8))
    with torch.no_grad():
        net[2].weight[0, :2] = torch.tensor([0.0, -0.0])
    mask = opf.PackedMasks.full(opf.MaskLayout.of(net))
    report = opf.export(net, mask, tmp_path / "a.safetensors", format="sparse-bitmask")
    assert report.lost_zeros == 2
    assert [layer.name for layer in report.layers] == ["2.weight"]
    tensors = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert tensors.keys() == {"0.weight", "0.bias", "2.bias", *(
        f"2.{last}" for last in ("shape", "compressed", "bitmask", "row_offsets"))}
    found = read(tmp_path / "a.safetensors")
    assert found.keys() == net.state_dict().keys()
    assert torch.equal(found["2.weight"].to_dense(), net[2].weight)
    assert torch.equal(found["0.weight"], net[0].weight)
    assert json.loads(json.dumps(config("sparse-bitmask", 0.5)))["sparsity_config"]["format"] == "sparse-bitmask"


def test_names_of_both_kinds_are_read(made, tmp_path) -> None:
    bitmask = weight(made, "sparse-bitmask")
    tensors, _ = compress(bitmask, "sparse-bitmask")
    for prefix in ("m.a", "m.a.weight"):
        safetensors.torch.save_file({f"{prefix}.{last}": t for last, t in tensors.items()}, tmp_path / "a")
        assert list(read(tmp_path / "a")) == ["m.a.weight"]
    tensors, _ = compress(weight(made, LAYOUTS[1]), LAYOUTS[1])
    safetensors.torch.save_file({f"a.{last}": t for last, t in tensors.items()}, tmp_path / "a")
    assert torch.equal(read(tmp_path / "a")["a.weight"].values, tensors["compressed"].flatten())


def test_tensors_that_do_not_fit_are_refused(made, tmp_path) -> None:
    sound, _ = compress(weight(made, "sparse-bitmask"), "sparse-bitmask")
    for last, broken, rule in [
            ("shape", torch.tensor([6, 19]), "bits past the last column"),
            ("shape", torch.tensor([6, -20]), "shape must be two sizes"),
            ("shape", torch.tensor([6, 1 << 40]), "bitmask must be uint8"),
            ("bitmask", sound["bitmask"][1:], "bitmask must be uint8"),
            ("compressed", sound["compressed"][1:], "a value for every bit"),
            ("compressed", sound["compressed"].int(), "values must be floats")]:
        with pytest.raises(ValueError, match=rule):
            decompress({**sound, last: broken}, "sparse-bitmask")
    safetensors.torch.save_file({"a.bitmask": sound["bitmask"]}, tmp_path / "a")
    with pytest.raises(IntegrityError, match="a is no weight in the layout sparse-24-bitmask"):
        read(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"no safetensors file at all")
    with pytest.raises(IntegrityError, match="not a whole safetensors file"):
        read(tmp_path / "a")
    with pytest.raises(ValueError, match="rows must have a multiple of 4 columns"):
        compress(Bitmask.of(torch.ones(1, 6), torch.tensor([[1]])), LAYOUTS[1])
    with pytest.raises(ValueError, match="at most 2 weights may be kept in every 4 columns"):
        compress(Bitmask.of(torch.ones(1, 8), torch.tensor([[7]])), LAYOUTS[1])
