"""A tensor file that differs in one bit is refused; digests are of what they say."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from optprune_fast.runtime import files
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.runtime.files import load_tensors, save_tensors, sha256_file, sha256_tensors, write_bytes

# ---- digests


def test_digests_are_those_of_the_content(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x" * 3_000_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_tensor_digests_see_names_dtypes_shapes_and_signs_but_no_strides() -> None:
    w = torch.arange(6.0).view(2, 3)
    others = [{"v": w}, {"w": w.double()}, {"w": w.view(3, 2)}, {"w": -w}, {"w": w, "x": torch.empty(0)}, {},
              {"w": w.view(torch.int32)}]
    digests = {sha256_tensors(tensors) for tensors in [{"w": w}, *others]}
    assert len(digests) == 1 + len(others)
    assert sha256_tensors({"w": w.t().contiguous().t(), "a": w[0]}) == sha256_tensors({"a": w[0].clone(), "w": w})


# ---- tensor files

METADATA = {"layout": '{"a": "sha256\\"", "sha256":"0"}', "é": "", "budget": "12"}


def some_tensors() -> dict[str, torch.Tensor]:
    made = {f"t{i}": torch.arange(5).to(dtype) for i, dtype in enumerate(files.DTYPES)}
    shared = torch.randn(4, 6)
    return {**made, "empty": torch.empty(0, 3), "scalar": torch.tensor(1.5), "view": shared[:, ::2], "twin": shared.t(),
            "sha256": torch.tensor([-1, 0]), "grad": torch.nn.Parameter(torch.ones(2))}


def small_file(folder: Path) -> Path:
    path = folder / "small"
    tensors = {"a.words": torch.arange(-30, 34).view(1, 8, 8), "b": torch.randn(13).bfloat16()}
    save_tensors(path, tensors, {"layout": "[[8, 500]]", "digest": "ab" * 32}, kind="result")
    return path


def test_tensors_and_texts_come_back(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_tensors(tmp_path / "a", tensors, METADATA, kind="result", version=3)
    loaded, metadata = load_tensors(tmp_path / "a", kind="result", version=4)
    assert loaded.keys() == tensors.keys()
    for name, t in tensors.items():
        torch.testing.assert_close(loaded[name], t.detach(), rtol=0, atol=0)
    assert metadata.items() >= METADATA.items()
    assert metadata["format"] == "optprune_fast.result"
    assert metadata["version"] == "3"


def test_a_file_without_tensors_is_a_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {}, {}, kind="result")
    assert load_tensors(tmp_path / "a", kind="result")[0] == {}


def test_any_safetensors_reader_reads_our_files(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_tensors(tmp_path / "a", tensors, METADATA, kind="result")
    read = safetensors.torch.load_file(tmp_path / "a")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], t) for name, t in tensors.items())


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_tensors(tmp_path / "a", tensors, METADATA, kind="result")
    save_tensors(tmp_path / "b", dict(reversed(tensors.items())), dict(reversed(METADATA.items())), kind="result")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    content = path.read_bytes()
    assert 900 < len(content) < 4000
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(content):
            for bit in range(8):
                file.seek(at)
                file.write(bytes([byte ^ 1 << bit]))
                with pytest.raises(IntegrityError, match=r"^load_tensors: .*(altered|truncated)"):
                    load_tensors(path, kind="result")
            file.seek(at)
            file.write(bytes([byte]))
    load_tensors(path, kind="result")


def test_every_missing_end_is_found(tmp_path: Path) -> None:
    content = small_file(tmp_path).read_bytes()
    for size in range(len(content)):
        (tmp_path / "short").write_bytes(content[:size])
        with pytest.raises(IntegrityError, match="the file is truncated"):
            load_tensors(tmp_path / "short", kind="result")


def test_bytes_too_many_are_found(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.raises(IntegrityError, match="altered: it has 2 bytes too many"):
        load_tensors(path, kind="result")


def test_exchanged_values_are_found(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-2] + content[-1:] + content[-2:-1])
    with pytest.raises(IntegrityError, match="altered: its SHA-256 is not the one written in it"):
        load_tensors(path, kind="result")


def test_other_peoples_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "other"
    for content in (b"a text of some length, which is no safetensors file", b"\x80\x02}q\x00." * 20,
                    safetensors.torch.save({"w": torch.ones(3)}),
                    safetensors.torch.save({"w": torch.ones(3)}, {"format": "pt"})):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match="not a file of optprune_fast"):
            load_tensors(path, kind="result")


def test_another_kind_and_a_newer_version_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_tensors(path, {}, {}, kind="journal")
    with pytest.raises(IntegrityError, match=r"the file holds optprune_fast\.journal, not optprune_fast\.result"):
        load_tensors(path, kind="result")
    save_tensors(path, {}, {}, kind="result", version=2)
    with pytest.raises(IntegrityError, match=r"version 2, newer than 1, the last one known here\n.*\nupdate opt"):
        load_tensors(path, kind="result")


SIGNED = '{"__metadata__":{"format":"optprune_fast.result","sha256":"' + "0" * 64 + '","version":"1"},'


def signed(header: bytes, tensors: bytes) -> bytes:
    """A file with a right SHA-256 over whatever is in it."""
    content = len(header).to_bytes(8, "little") + header + tensors
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def test_a_signed_header_that_tells_the_truth_is_accepted(tmp_path: Path) -> None:
    """So those below are refused for what they say, not for how the test makes them."""
    (tmp_path / "a").write_bytes(signed((SIGNED + '"w":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}').encode(),
                                        b"\7\0\0\0"))
    assert load_tensors(tmp_path / "a", kind="result")[0]["w"].tolist() == [7]


@pytest.mark.parametrize("entry", [
    '"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}',
    '"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,4]}',
    '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"v":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}',
    '"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}',
    '"w":{"shape":[1],"data_offsets":[0,4]}',
    '"w":{"dtype":"F32","shape":[1],"data_offsets":[0,"4"]}',
    '"w":{"dtype":"F32","shape":[1],"data_offsets":[0,1e300]}',
    '"w":[[]]', '"w":null', '"w":' + "[" * 100_000,
])
def test_a_header_that_promises_what_is_not_there_is_refused(entry: str, tmp_path: Path) -> None:
    for length in (4, 8):
        (tmp_path / "a").write_bytes(signed((SIGNED + entry + "}").encode(), bytes(length)))
        with pytest.raises(IntegrityError, match=r"^load_tensors: "):
            load_tensors(tmp_path / "a", kind="result")


def test_metadata_must_be_texts(tmp_path: Path) -> None:
    metadata = '{"format":"optprune_fast.result","sha256":"' + "0" * 64 + '","version":1}'
    (tmp_path / "a").write_bytes(signed(f'{{"__metadata__":{metadata}}}'.encode(), b""))
    with pytest.raises(IntegrityError, match="its header lacks what every header of ours has"):
        load_tensors(tmp_path / "a", kind="result")


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(ValueError, match="the metadata sha256, version are written by save_tensors itself"):
        save_tensors(path, {}, {"version": "1", "sha256": ""}, kind="result")
    with pytest.raises(TypeError, match=r"metadata must be texts\n  budget  12\ntry str\(value\)"):
        save_tensors(path, {}, {"budget": 12}, kind="result")  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="the dtype has no name in our files\n  w  complex64"):
        save_tensors(path, {"w": torch.ones(1, dtype=torch.complex64)}, {}, kind="result")
    with pytest.raises(ValueError, match="no tensor can be called __metadata__"):
        save_tensors(path, {"__metadata__": torch.ones(1)}, {}, kind="result")
    assert not os.listdir(tmp_path)


def test_a_header_that_no_reader_takes_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HEADER_LIMIT", 1000)
    with pytest.raises(ValueError, match="the metadata are too long"):
        save_tensors(tmp_path / "a", {}, {"long": "x" * 1000}, kind="result")
    assert not os.listdir(tmp_path)
