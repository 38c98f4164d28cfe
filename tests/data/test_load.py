"""`load` as a whole: names, paths, normalisation, limits."""

import math

import numpy
import pytest
import torch

from optprune_fast.data import load


def save(path, **arrays):
    numpy.savez(path, **arrays)
    return path


def test_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"neither a built-in name \(digits, fashion-mnist\) nor a path that exists"):
        load("digitz")
    with pytest.raises(ValueError, match="neither a built-in name"):
        load("")


def test_missing_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file or folder\n  path  .*nowhere.npz"):
        load(tmp_path / "nowhere.npz")


def test_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"a file must be a \.npz"):
        load(tmp_path / "data.csv")


def test_folder_of_neither_kind_says_what_was_expected(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="neither idx files nor one folder of pictures per class"):
        load(tmp_path)


def test_path_belongs_to_fashion_mnist_alone(tmp_path):
    with pytest.raises(ValueError, match="path= says where the files of 'fashion-mnist' lie"):
        load("digits", path=tmp_path)


def test_statistics_are_per_channel_and_come_from_train_alone(tmp_path):
    generator = numpy.random.default_rng(0)
    x = generator.normal(size=(5000, 3, 2, 3)) * [[[1.0]], [[2.0]], [[30.0]]] + [[[0.0]], [[5.0]], [[-7.0]]]
    y = numpy.zeros(5000, dtype="int64")
    data = load(save(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:7] + 1, y_test=y[:7]))
    assert data.mean == pytest.approx(x.mean((0, 2, 3)), abs=1e-5)
    assert data.std == pytest.approx(x.std((0, 2, 3)), rel=1e-5)
    assert data.train[0].mean((0, 2, 3)).abs().max() < 1e-4
    column = [torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std)]
    expected = (torch.from_numpy(x[:7] + 1) - column[0]) / column[1]
    torch.testing.assert_close(data.test[0].double(), expected.double(), atol=1e-5, rtol=1e-5)


def test_vectors_have_one_mean_and_one_spread(tmp_path):
    data = load(save(tmp_path / "a.npz", x=numpy.array([[1.0, 3.0], [5.0, 7.0]]), y=numpy.array([0, 1])))
    assert data.mean == (4.0,)
    assert data.std == pytest.approx([math.sqrt(5)])


def test_constant_channel_is_centred_and_not_divided(tmp_path):
    x = numpy.full((3, 2, 2, 2), 0.1)
    data = load(save(tmp_path / "a.npz", x=x, y=numpy.array([0, 1, 0])))
    assert data.std == (1.0, 1.0)
    assert data.train[0].abs().max() < 1e-6


def test_given_statistics_are_used_as_they_are(tmp_path):
    path = save(tmp_path / "a.npz", x=numpy.full((2, 2, 1, 1), 6.0), y=numpy.array([0, 1]))
    data = load(path, mean=(2.0, 4.0), std=2)
    assert data.train[0].flatten(1).tolist() == [[2.0, 1.0]] * 2
    assert (data.mean, data.std) == ((2.0, 4.0), (2.0, 2.0))


def test_measured_spread_is_about_the_measured_mean(tmp_path):
    data = load(save(tmp_path / "a.npz", x=numpy.array([[1.0], [3.0]]), y=numpy.array([0, 1])), mean=0)
    assert (data.mean, data.std) == ((0.0,), (1.0,))
    assert data.train[0].flatten().tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mean": (1.0, 2.0, 3.0)}, "mean must be a number, or 2 of them"),
        ({"mean": math.nan}, "mean must be finite"),
        ({"std": 0}, "std must be above 0"),
        ({"std": -1.0}, "std must be above 0"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"classes": 1}, r"labels must be below classes\n  classes  1\n  largest_label  1"),
    ],
)
def test_bad_arguments_name_themselves(tmp_path, arguments, text):
    path = save(tmp_path / "a.npz", x=numpy.zeros((2, 2, 1, 1)), y=numpy.array([0, 1]))
    with pytest.raises(ValueError, match=text):
        load(path, **arguments)


def test_stated_classes_may_exceed_the_labels(tmp_path):
    data = load(save(tmp_path / "a.npz", x=numpy.ones((2, 2)), y=numpy.array([0, 2])), classes=5)
    assert data.classes == 5
    assert data.class_names == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(("name", "module"), [("digits", "sklearn.datasets"), ("pictures", "PIL.Image")])
def test_missing_package_names_the_extra(tmp_path, monkeypatch, name, module):
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    (tmp_path / "pictures" / "cat" / "a.png").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=r'not installed\npip install "optprune-fast\[data\]"'):
        load(name)
