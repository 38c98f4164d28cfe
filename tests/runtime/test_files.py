"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from optprune_fast.runtime import files
from optprune_fast.runtime.files import write_aside, write_json, write_text

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
