"""The file of weights: whole or refused, whatever happens to its bytes."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from optprune_fast.formats import file as weights_file
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import patterns
from optprune_fast.formats.block import Block
from optprune_fast.formats.csr import CSR
from optprune_fast.formats.dense import Dense
from optprune_fast.formats.entropy import Entropy
from optprune_fast.formats.file import read, write
from optprune_fast.formats.tiled_index import TiledIndex
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.runtime.files import save_tensors


def small(made):
    weight, words = made.weight((3, 5)), made.words(made.masks((3, 5))["half"])
    return {"w": Bitmask.from_dense(weight, words), "e": Entropy.from_dense(weight, words),
            "b": Dense.of(torch.tensor([1.5]))}


def everything(made):
    shape = (8, 40)
    weight, mask = made.weight(shape, torch.bfloat16), made.masks(shape)["half"]
    coded = TiledIndex.from_dense(weight, made.words(mask), values="exponent")
    blocks = Block.from_dense(weight, made.words(made.blocks(shape, (4, 4))))
    return {**small(made), "coded": coded, "blocks": blocks, "csr": CSR.from_dense(weight, made.words(mask)),
            "steps": Dense.of(torch.tensor(7)), "flags": Dense.of(torch.tensor([True, False])),
            "none": Bitmask.from_dense(torch.ones(0, 5), torch.zeros(0, 1, dtype=torch.int64))}


def read_all(path):
    with read(path) as file:
        return {name: file[name].to_dense() for name in file}


def test_every_format_comes_back(made, tmp_path) -> None:
    weights = everything(made)
    write(tmp_path / "a", weights, {"target": "cpu"}, {"b": ("tied", "again")})
    with read(tmp_path / "a") as file:
        assert list(file) == list(weights)
        assert file.metadata["target"] == "cpu"
        assert file.entries["b"].aliases == ("tied", "again")
        for name, held in weights.items():
            found = file[name]
            assert type(found) is type(held)
            assert torch.equal(patterns(found.to_dense()), patterns(held.to_dense()))
            entry = file.entries[name]
            assert (entry.shape, entry.dtype, entry.nnz) == (held.shape, held.dtype, held.nnz)
            assert entry.nbytes == sum(plane.nbytes for plane in held.planes().values())
        assert torch.equal(file["tied"].to_dense(), file["b"].to_dense())
        file.verify()
        with pytest.raises(KeyError):
            file["absent"]


def test_equal_content_gives_equal_bytes_and_any_reader_reads_dense_tensors(made, tmp_path) -> None:
    write(tmp_path / "a", everything(made))
    write(tmp_path / "b", everything(made))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = safetensors.torch.load_file(tmp_path / "a")
    assert found["b"].tolist() == [1.5]
    assert "w/words" in found


def test_one_weight_is_read_at_a_time(made, tmp_path, monkeypatch) -> None:
    write(tmp_path / "a", everything(made))
    asked = []
    with read(tmp_path / "a") as file:
        real = file._file.read
        monkeypatch.setattr(file._file, "read", lambda name: asked.append(name) or real(name))
        file["w"]
    assert asked == ["w/values", "w/words"]


def test_every_flipped_bit_is_found(made, tmp_path) -> None:
    path = tmp_path / "a"
    write(path, small(made))
    content = path.read_bytes()
    assert 500 < len(content) < 1500
    with open(path, "r+b", buffering=0) as handle:
        for at, byte in enumerate(content):
            for bit in range(8):
                handle.seek(at)
                handle.write(bytes([byte ^ 1 << bit]))
                with pytest.raises(IntegrityError, match=r"^(load_tensors|read): .*(altered|truncated)"):
                    read_all(path)
            handle.seek(at)
            handle.write(bytes([byte]))
    read_all(path)


def test_every_missing_end_is_found(made, tmp_path) -> None:
    write(tmp_path / "a", small(made))
    content = (tmp_path / "a").read_bytes()
    for size in range(len(content)):
        (tmp_path / "b").write_bytes(content[:size])
        with pytest.raises(IntegrityError, match="the file is truncated"):
            read(tmp_path / "b")
    (tmp_path / "b").write_bytes(content + b"\0")
    with pytest.raises(IntegrityError, match="1 bytes too many"):
        read(tmp_path / "b")


def forged(path, made, change, planes=None):
    """A file with right digests, whose entries say something else."""
    tensors = {"w/words": torch.tensor([[3], [0], [1]]), "w/values": torch.ones(3), "b": torch.ones(1)}
    tensors |= planes or {}
    entries = [["w", "bitmask", weights_file._digest({"values": tensors["w/values"], "words": tensors["w/words"]}), [],
                [3, 5], "F32", 3, {}], ["b", "dense", weights_file._digest({"values": tensors["b"]}), []]]
    change(entries)
    save_tensors(path, tensors, {"entries": json.dumps(entries)}, kind="weights", whole=False)


def test_a_forged_file_that_tells_the_truth_is_accepted(made, tmp_path) -> None:
    forged(tmp_path / "a", made, lambda entries: None)
    assert read_all(tmp_path / "a")["w"].sum() == 3


@pytest.mark.parametrize(("change", "rule"), [
    (lambda e: e[0].__setitem__(1, "os.system"), "'os.system', which is none of dense, bitmask"),
    (lambda e: e[0].__setitem__(1, "csr"), "w is no weight in the format csr"),
    (lambda e: e[0].__setitem__(2, "0" * 64), "the SHA-256 of w is not the one written in it"),
    (lambda e: e[0].__setitem__(4, [5, 3]), "words must be"),
    (lambda e: e[0].__setitem__(4, [3, -5]), "a shape or a count that is none"),
    (lambda e: e[0].__setitem__(4, [3, 2.5]), "a shape or a count that is none"),
    (lambda e: e[0].__setitem__(4, [10**30, 5]), "a shape or a count that is none"),
    (lambda e: e[0].__setitem__(4, [3, 2**40]), "w has more weights than its bytes can stand for"),
    (lambda e: e[0].__setitem__(4, [2**20, 5]), "words must be"),
    (lambda e: e[0].__setitem__(5, "F16"), "of another dtype than stated"),
    (lambda e: e[0].__setitem__(5, "F99"), "does not hold weights"),
    (lambda e: e[0].__setitem__(6, 4), "3 kept weights, not 4"),
    (lambda e: e[0].__setitem__(7, {"values": 1}), "w is no weight in the format bitmask"),
    (lambda e: e[0].__setitem__(7, []), "w is no weight in the format bitmask|does not hold weights"),
    (lambda e: e.append(e[1]), "b is there twice or not at all"),
    (lambda e: e.pop(), "no entry names b"),
    (lambda e: e.append(["c", "dense", "", []]), "does not hold weights"),
    (lambda e: e.append(3), "does not hold weights"),
    (lambda e: e.append([]), "does not hold weights"),
])
def test_entries_that_do_not_tell_the_truth_are_refused(change, rule, made, tmp_path) -> None:
    forged(tmp_path / "a", made, change)
    with pytest.raises(IntegrityError, match=rule):
        read_all(tmp_path / "a")


def test_planes_that_are_not_those_of_the_entry_are_refused(made, tmp_path) -> None:
    for planes in ({"w/words": torch.tensor([[3], [0], [2]]), "w/values": torch.ones(2)},
                   {"w/words": torch.tensor([[3], [0], [32]])}, {"w/words": torch.ones(3)},
                   {"w/values": torch.ones(3, 1)}):
        forged(tmp_path / "a", made, lambda entries: None, planes)
        with pytest.raises(IntegrityError, match="w is no weight in the format bitmask"):
            read_all(tmp_path / "a")


def test_streams_are_decoded_by_verify(made, tmp_path, monkeypatch) -> None:
    write(tmp_path / "a", small(made))
    with read(tmp_path / "a") as file:
        monkeypatch.setattr(Entropy, "to_bitmask", lambda self: (_ for _ in ()).throw(ValueError("as stated")))
        with pytest.raises(IntegrityError, match="as stated"):
            file.verify()


def test_other_files_are_told_apart(made, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read(tmp_path / "a")
    save_tensors(tmp_path / "a", {}, {}, kind="mask", whole=False)
    with pytest.raises(IntegrityError, match=r"the file holds optprune_fast\.mask, not optprune_fast\.weights"):
        read(tmp_path / "a")
    save_tensors(tmp_path / "a", {}, {}, kind="weights", version=2, whole=False)
    with pytest.raises(IntegrityError, match="version 2, newer than 1"):
        read(tmp_path / "a")
    save_tensors(tmp_path / "a", {}, {}, kind="weights", whole=False)
    with pytest.raises(IntegrityError, match="does not hold weights: 'entries'"):
        read(tmp_path / "a")


def test_a_weight_that_its_bytes_do_not_account_for_is_not_written(tmp_path) -> None:
    held = CSR((1, 10**9), torch.tensor([0, 1], dtype=torch.int32), torch.tensor([7], dtype=torch.int32), torch.ones(1))
    held.validate()
    with pytest.raises(ValueError, match="a byte may stand for at most 65536 weights"):
        write(tmp_path / "a", {"w": held})


def test_names_that_collide_are_not_written(made, tmp_path) -> None:
    with pytest.raises(ValueError, match="two tensors would have this name in the file\n  name  'w/words'"):
        write(tmp_path / "a", {**small(made), "w/words": Dense.of(torch.ones(1))})
