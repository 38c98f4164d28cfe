"""Tensor files read one tensor at a time."""

from __future__ import annotations

import hashlib

import pytest
import torch

from optprune_fast.runtime import files
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.runtime.files import save_tensors
from optprune_fast.runtime.tensor_file import TensorFile


def test_tensors_of_every_kind_come_back_one_by_one(tmp_path) -> None:
    tensors = {f"t{i}": torch.arange(5).to(dtype) for i, dtype in enumerate(files.DTYPES)}
    tensors |= {"empty": torch.empty(0, 3), "scalar": torch.tensor(1.5), "view": torch.ones(4, 6)[:, ::2]}
    save_tensors(tmp_path / "a", tensors, {"text": "é"}, kind="test", whole=False)
    with TensorFile(tmp_path / "a", kind="test") as file:
        assert file.metadata["text"] == "é"
        assert file.stored.keys() == tensors.keys()
        for name in reversed(tensors):
            assert torch.equal(file.read(name), tensors[name])
            assert file.read(name).dtype == tensors[name].dtype


def test_a_file_that_loses_its_end_while_it_is_open_is_found(tmp_path) -> None:
    save_tensors(tmp_path / "a", {"w": torch.ones(1000)}, {}, kind="test", whole=False)
    with TensorFile(tmp_path / "a", kind="test") as file:
        with open(tmp_path / "a", "r+b") as handle:
            handle.truncate(2000)
        with pytest.raises(IntegrityError, match="the file is truncated: it ends in w"):
            file.read("w")


def test_a_file_with_a_digest_of_all_of_it_is_no_such_file(tmp_path) -> None:
    save_tensors(tmp_path / "a", {"w": torch.ones(3)}, {}, kind="test")
    with pytest.raises(IntegrityError, match="the SHA-256 of its header is not the one written in it"):
        TensorFile(tmp_path / "a", kind="test")


SIGNED = '{"__metadata__":{"format":"optprune_fast.test","sha256":"' + "0" * 64 + '","version":"1"},'


@pytest.mark.parametrize("entry", [
    '"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}',
    '"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,4]}',
    '"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}',
    '"w":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}',
    '"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"v":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}',
    '"w":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}',
    '"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}',
    '"w":{"shape":[1],"data_offsets":[0,4]}',
    '"w":{"dtype":"F32","shape":1,"data_offsets":[0,4]}',
])
def test_a_header_that_promises_what_is_not_there_is_refused(entry, tmp_path) -> None:
    header = (SIGNED + entry + "}").encode()
    content = len(header).to_bytes(8, "little") + header
    (tmp_path / "a").write_bytes(content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1) + bytes(4))
    with pytest.raises(IntegrityError, match="the file was not written by save_tensors"):
        TensorFile(tmp_path / "a", kind="test")
