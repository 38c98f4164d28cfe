"""Folders of idx files, and the built-in name that pins their digests."""

import gzip
import hashlib
import struct

import numpy
import pytest
import torch

from optprune_fast.data import fashion, load
from optprune_fast.data.idx import TYPES, read_idx
from optprune_fast.runtime.errors import IntegrityError

STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def idx_bytes(array, code=0x08):
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(TYPES[code]).tobytes()


def samples(n, seed=0):
    generator = numpy.random.default_rng(seed)
    return generator.integers(0, 256, (n, 5, 4)), numpy.arange(n) % 3


def write_folder(folder, *, zipped=True, parts=("train", "t10k")):
    folder.mkdir(exist_ok=True)
    for part, n in (("train", 7), ("t10k", 5)):
        if part in parts:
            for kind, array in zip(("images-idx3", "labels-idx1"), samples(n), strict=True):
                data = idx_bytes(array)
                name = f"{part}-{kind}-ubyte" + (".gz" if zipped else "")
                (folder / name).write_bytes(gzip.compress(data) if zipped else data)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_folder_gives_every_pixel_and_label(tmp_path, zipped):
    data = load(write_folder(tmp_path / "set", zipped=zipped), mean=0, std=1)
    for part, n in ((data.train, 7), (data.test, 5)):
        pixels, labels = samples(n)
        assert torch.equal(part[0][:, 0], torch.from_numpy(pixels).float() / 255)
        assert part[1].tolist() == labels.tolist()
    assert (data.name, data.classes, data.class_names) == ("set", 3, ("0", "1", "2"))


def test_names_with_a_dot_are_read_too(tmp_path):
    write_folder(tmp_path, zipped=False)
    for stem in STEMS:
        (tmp_path / f"{stem}-ubyte").rename(tmp_path / f"{stem.replace('-idx', '.idx')}-ubyte")
    assert len(load(tmp_path).test[1]) == 5


def test_folder_without_test_files_has_no_test_part(tmp_path):
    assert load(write_folder(tmp_path, parts=("train",))).test is None


@pytest.mark.parametrize("stem", STEMS)
def test_one_missing_file_is_named(tmp_path, stem):
    (write_folder(tmp_path) / f"{stem}-ubyte.gz").unlink()
    text = rf"missing from the folder\n  folder .*\n  file  '{stem}-ubyte\[.gz\]'"
    with pytest.raises(FileNotFoundError, match=text):
        load(tmp_path)


@pytest.mark.parametrize("code", list(TYPES))
def test_every_number_type_is_read_big_endian(tmp_path, code):
    array = numpy.array([[1, 2, 3], [100, 101, 102]])
    (tmp_path / "a").write_bytes(idx_bytes(array, code))
    found = read_idx(tmp_path / "a")
    assert found.dtype.isnative
    assert found.tolist() == array.tolist()


GOOD = idx_bytes(numpy.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not an idx file"),
        (GOOD[:3], "not an idx file"),
        (b"\x89PNG" + GOOD[4:], "not an idx file.*\n.*\n  starts_with  '89 50 4e 47'"),
        (b"\0\0\x07\x02" + GOOD[4:], "not an idx file"),
        (b"\0\0\x08\0", "not an idx file"),
        (GOOD[:10], "ends inside its header"),
        (GOOD[:-1], r"cut short\n.*\n  shape  \(2, 3\)\n  bytes  17\n  expected  18"),
        (GOOD + b"\0", "bytes after its last value"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + b"\0", "cut short"),
    ],
)
def test_bytes_that_break_the_format_are_named(tmp_path, data, text):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(IntegrityError, match=text):
        read_idx(tmp_path / "a")


def test_every_cut_of_a_gzip_file_is_found(tmp_path):
    packed = gzip.compress(GOOD)
    for length in range(len(packed)):
        (tmp_path / "a.gz").write_bytes(packed[:length])
        with pytest.raises(IntegrityError, match=r"cut short or damaged|not an idx file"):
            read_idx(tmp_path / "a.gz")


def test_no_altered_byte_of_a_gzip_file_alters_a_value(tmp_path):
    packed = gzip.compress(GOOD)
    found = set()
    for position in range(len(packed)):
        altered = bytearray(packed)
        altered[position] ^= 0xFF
        (tmp_path / "a.gz").write_bytes(altered)
        try:
            assert read_idx(tmp_path / "a.gz").tobytes() == GOOD[12:]  # an idle byte of the header, the time for one
        except IntegrityError as error:
            found.add(type(error.__cause__).__name__)
    assert found == {"BadGzipFile", "EOFError", "error"}  # the last is zlib's


def test_file_that_only_claims_to_be_gzip_is_found(tmp_path):
    (tmp_path / "a.gz").write_bytes(GOOD)
    with pytest.raises(IntegrityError, match="Not a gzipped file"):
        read_idx(tmp_path / "a.gz")


def test_labels_and_pictures_must_be_as_many(tmp_path):
    write_folder(tmp_path, zipped=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(numpy.zeros(4)))
    with pytest.raises(ValueError, match=r"test part needs one label per input\n  inputs  5\n  labels  4"):
        load(tmp_path)


def test_pictures_in_place_of_labels_are_refused(tmp_path):
    write_folder(tmp_path, zipped=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(samples(7)[0]))
    with pytest.raises(ValueError, match=r"must have 1 dimension\n.*\n  shape  \(7, 5, 4\)"):
        load(tmp_path)


def test_test_label_beyond_the_training_labels_is_refused(tmp_path):
    write_folder(tmp_path, zipped=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(numpy.array([0, 1, 2, 3, 0])))
    with pytest.raises(ValueError, match=r"a label that the training part lacks\n  label  3\n  classes  3"):
        load(tmp_path)
    assert load(tmp_path, classes=4).classes == 4


def test_fashion_mnist_refuses_other_files(tmp_path):
    with pytest.raises(IntegrityError, match=r"sha256 .* is not the published one\n  path  .*train-images"):
        load("fashion-mnist", path=write_folder(tmp_path))


def test_fashion_mnist_reads_files_of_the_pinned_digests(tmp_path, monkeypatch):
    write_folder(tmp_path)
    for stem in STEMS:
        digest = hashlib.sha256(gzip.decompress((tmp_path / f"{stem}-ubyte.gz").read_bytes())).hexdigest()
        assert stem[:-5] in fashion.DIGESTS
        monkeypatch.setitem(fashion.DIGESTS, stem[:-5], digest)
    data = load("fashion-mnist", path=tmp_path)
    assert (data.name, data.classes, data.class_names[9]) == ("fashion-mnist", 10, "Ankle boot")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        load("fashion-mnist", path=tmp_path)


def test_fashion_mnist_without_a_folder_names_the_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt install dataset-fashion-mnist, or path="):
        load("fashion-mnist", path=tmp_path / "nowhere")
