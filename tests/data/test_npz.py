"""NumPy archives, and the rules for samples that every source shares."""

import numpy
import pytest
import torch

from optprune_fast.data import load
from optprune_fast.runtime.errors import IntegrityError

X = numpy.arange(12.0).reshape(4, 3)
Y = numpy.array([0, 1, 2, 1])


def save(folder, **arrays):
    numpy.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def test_numbers_other_than_bytes_are_taken_as_they_are(tmp_path):
    for dtype in ("float16", "float64", "int32", ">f4"):
        data = load(save(tmp_path, x=X.astype(dtype), y=Y.astype("uint16")), mean=0, std=1)
        assert data.train[0].dtype == torch.float32
        assert data.train[0].tolist() == X.tolist()
        assert data.train[1].tolist() == Y.tolist()
    assert (data.name, data.test, data.classes) == ("set", None, 3)


def test_eight_bit_pictures_are_divided_by_255_and_get_a_channel(tmp_path):
    x = numpy.array([[[0, 51]], [[255, 102]]], dtype="uint8")
    data = load(save(tmp_path, x_train=x, y_train=Y[:2], x_test=x[:1], y_test=Y[:1]), mean=0, std=1)
    assert data.train[0].shape == (2, 1, 1, 2)
    torch.testing.assert_close(data.train[0].flatten(), torch.tensor([0.0, 0.2, 1.0, 0.4]))
    assert data.test[0].shape == (1, 1, 1, 2)


def test_other_arrays_keep_their_shape(tmp_path):
    assert load(save(tmp_path, x=X.reshape(2, 2, 3), y=Y[:2])).train[0].shape == (2, 2, 3)
    assert load(save(tmp_path, x=X.astype("uint8"), y=Y)).train[0].shape == (4, 3)


@pytest.mark.parametrize(
    "arrays",
    [{"x": X}, {"a": X, "b": Y}, {"x": X, "y": Y, "x_test": X}, {"x_train": X, "y": Y}, {"x_test": X, "y_test": Y}],
)
def test_wrong_array_names_are_listed(tmp_path, arrays):
    with pytest.raises(ValueError, match=rf"must hold x, y or x_train, y_train.*\n.*\n  arrays  \['{min(arrays)}'"):
        load(save(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (numpy.where(X == 7, numpy.nan, X), Y, r"training inputs hold NaN or infinity \(as float32\)\n  first_row  2"),
        (numpy.where(X == 0, -numpy.inf, X), Y, r"NaN or infinity \(as float32\)\n  first_row  0"),
        (X.astype("complex64"), Y, r"inputs must be numbers\n  dtype  'complex64'"),
        (X.astype("U3"), Y, "inputs must be numbers"),
        (X[:, 0], Y, r"inputs must have the shape \[N, \.\.\.\]\n  shape  \(4,\)"),
        (X[:0], Y[:0], "the training part is empty"),
        (X[:, :0], Y, "the training part is empty"),
        (X, Y[:3], r"one label per input\n  inputs  4\n  labels  3"),
        (X, Y.astype("float32"), r'labels must be integers\n  dtype  \'float32\'\ny.astype\("int64"\)'),
        (X, Y[:, None], r"labels must have the shape \[N\]\n  shape  \(4, 1\)\ny.reshape"),
        (X, Y - 1, r"labels must be at least 0\n  label  -1\n  row  0"),
        (X, Y * 1000, "the largest label is beyond both 1000 and the number of samples"),
    ],
)
def test_samples_that_break_a_rule_are_described(tmp_path, x, y, text):
    with pytest.raises(ValueError, match=text):
        load(save(tmp_path, x=x, y=y))


def test_value_beyond_float32_is_not_made_infinite_in_silence(tmp_path):
    with pytest.raises(ValueError, match="NaN or infinity"):
        load(save(tmp_path, x=X * 1e300, y=Y))


def test_train_and_test_must_have_one_shape(tmp_path):
    with pytest.raises(ValueError, match=r"must have one shape\n  train  \(3,\)\n  test  \(2,\)"):
        load(save(tmp_path, x_train=X, y_train=Y, x_test=X[:, :2], y_test=Y))


def test_pickled_objects_are_refused_unread(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the file's code ran",))

    with pytest.raises(IntegrityError, match="array x cannot be read"):
        load(save(tmp_path, x=numpy.array([Bomb(), None]), y=Y[:2]))


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_of_the_file_is_found(tmp_path, compressed):
    (numpy.savez_compressed if compressed else numpy.savez)(tmp_path / "set.npz", x=X, y=Y)
    whole = (tmp_path / "set.npz").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "set.npz").write_bytes(whole[:length])
        with pytest.raises(IntegrityError, match=r"cut short or damaged|cannot be read"):
            load(tmp_path / "set.npz")


def test_altered_content_is_found(tmp_path):
    path = save(tmp_path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()) + 9] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"cut short or damaged[\s\S]*Bad CRC-32"):
        load(path)
