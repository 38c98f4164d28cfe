"""Files are written whole or not at all, and a tensor file that differs in one bit is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from optprune_fast.runtime import files
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.runtime.files import (
    load_tensors,
    save_tensors,
    sha256_file,
    sha256_tensors,
    write_aside,
    write_bytes,
    write_json,
    write_text,
)

posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and signals of POSIX: not on this system")


# ---- write_aside


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    path.write_text("old")
    with write_aside(path) as aside:
        assert aside.parent == tmp_path
        assert aside.suffix == ".png"
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["plot.png"]


@pytest.mark.parametrize("at_fault", ["body", "fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_the_old_file_survives_a_fault_and_nothing_else_does(
        at_fault: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    fault = OSError(number, os.strerror(number))

    def fail(*_: object, **__: object) -> None:
        raise fault

    def write() -> None:
        with write_aside(path) as aside:
            aside.write_text("half of it")
            if at_fault == "body":
                fail()

    if at_fault != "body":
        monkeypatch.setattr(os, at_fault, fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        write()
    monkeypatch.undo()
    assert caught.value is fault
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result"]


def test_an_interrupt_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")

    def interrupted() -> None:
        with write_aside(path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result"]


@posix
def test_content_reaches_the_disk_before_the_name_and_the_name_before_the_return(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        mode = os.fstat(handle).st_mode
        seen.append("sync folder" if stat.S_ISDIR(mode) else "sync file")
        sync(handle)

    def rename(source: Path, target: Path) -> None:
        seen.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    write_text(tmp_path / "a", "text")
    assert seen == ["sync file", "rename", "sync folder"]


@posix
@pytest.mark.parametrize(("number", "ignored"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_only_a_folder_that_cannot_be_synced_is_forgiven(
        number: int, ignored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    if ignored:
        write_text(tmp_path / "a", "text")
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"  # the rename was done


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "ours", "")
        (tmp_path / "any").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode


@posix
def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("old", "absent"):
        (tmp_path / name).symlink_to(tmp_path / "there" / name)
    (tmp_path / "there" / "old").write_text("old")
    for name in ("old", "absent"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_text() == "new"
    assert sorted(os.listdir(tmp_path / "there")) == ["absent", "old"]


def test_impossible_places_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^write: there is no folder .*nowhere\n  path .*\nmake it first"), \
            write_aside(tmp_path / "nowhere" / "a"):
        pytest.fail("the block must not start")
    with pytest.raises(IsADirectoryError, match="this is a folder, not a file"):
        write_text(tmp_path, "")


@posix
def test_devices_and_pipes_are_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a device or a pipe, which no file can replace"):
        write_text(tmp_path / "pipe", "")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_json_and_text_are_what_was_given(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, None, 0.5]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"é": [1, None, 0.5]}
    write_text(tmp_path / "a.txt", "one\ntwo\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"one\ntwo\r\n"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"é": [1, None, 0.5]}


KILLED = """
import os, pathlib, signal, sys
import torch
from optprune_fast.runtime.files import load_tensors, save_tensors, write_bytes

folder = pathlib.Path(sys.argv[1])
path = folder / "masks"

def save(value):
    save_tensors(path, {"w": torch.full((5000,), value)}, {}, kind="test")

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def killed_at(name, call, before):
    real, left = getattr(os, name), [call]
    def patched(*arguments):
        left[0] -= 1
        if left[0]:
            return real(*arguments)
        if not before:
            real(*arguments)
        die()
    setattr(os, name, patched)

# name of the call, which of them, killed before it; and the value that a reader must find
points = [("open", 1, False, 1), ("open", 2, True, 1), ("fsync", 1, True, 1), ("fsync", 1, False, 1),
          ("replace", 1, True, 1), ("replace", 1, False, 2), ("fsync", 2, True, 2), ("fsync", 2, False, 2)]
for name, call, before, expected in points:
    save(1)
    child = os.fork()
    if child == 0:
        killed_at(name, call, before)
        save(2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, (name, call, before)
    tensors, _ = load_tensors(path, kind="test")
    assert tensors["w"].eq(expected).all(), (name, call, before)
    for debris in folder.glob(".*.aside"):
        debris.unlink()
    assert os.listdir(folder) == ["masks"]

# A disk that takes no more than 10 kB of the 20: a true short write, not a simulated one.
import resource
save(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, -1))
try:
    save(2)
except OSError:
    pass
else:
    raise AssertionError("the limit had no effect")
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
assert load_tensors(path, kind="test")[0]["w"].eq(1).all()
assert os.listdir(folder) == ["masks"]
print("done")
"""


@posix
def test_a_kill_at_any_moment_and_a_full_disk_leave_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    root = Path(files.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, capture_output=True, text=True,
                         timeout=120, check=False)
    assert ran.stdout == "done\n", ran.stderr


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
