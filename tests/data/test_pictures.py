"""Folders of pictures."""

import numpy
import pytest
import torch

from optprune_fast.data import load
from optprune_fast.runtime.errors import IntegrityError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def picture(seed, shape=(6, 5, 3)):
    return numpy.random.default_rng(seed).integers(0, 256, shape, dtype="uint8")


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write(folder, seed=0, shape=(6, 5, 3), classes=("cat", "dog")):
    for label, name in enumerate(classes):
        for i in range(3):
            save(folder / name / f"{i}.png", picture(seed + 10 * label + i, shape))
    return folder


def test_classes_are_numbered_by_folder_name(tmp_path):
    data = load(write(tmp_path, classes=("zebra", "ant")), mean=0, std=1)
    assert data.class_names == ("ant", "zebra")
    assert data.train[1].tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test is None
    # "zebra" was written first, from seed 0.
    expected = torch.from_numpy(picture(0)).permute(2, 0, 1).float() / 255
    assert torch.equal(data.train[0][3], expected)


def test_train_and_test_folders(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test", seed=100, classes=("cat",))
    data = load(tmp_path)
    assert data.train[0].shape == (6, 3, 6, 5)
    assert data.test[0].shape == (3, 3, 6, 5)
    assert len(data.mean) == 3
    (tmp_path / "test").rename(tmp_path / "later")
    assert load(tmp_path).test is None


def test_grey_pictures_have_one_channel(tmp_path):
    assert load(write(tmp_path, shape=(6, 5))).train[0].shape == (6, 1, 6, 5)


def test_jpeg_and_capital_endings_are_read_and_hidden_files_are_not(tmp_path):
    save(tmp_path / "cat" / "a.jpg", picture(0))
    save(tmp_path / "cat" / "b.JPEG", picture(1))
    (tmp_path / "cat" / ".hidden").write_text("")
    (tmp_path / ".cache").mkdir()
    assert load(tmp_path).train[0].shape == (2, 3, 6, 5)


def test_picture_of_another_size_is_named(tmp_path):
    save(write(tmp_path) / "dog" / "1.png", picture(0, (6, 4, 3)))
    text = r"must have one size.*\n  found  \(3, 6, 4\)\n  first  \(3, 6, 5\)\n.*dog.1.png differs from .*cat.0.png"
    with pytest.raises(ValueError, match=text):
        load(tmp_path)


def test_test_picture_must_have_the_size_of_the_training_pictures(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test", shape=(7, 5, 3))
    with pytest.raises(
        ValueError, match=r"one size.*\n  found  \(3, 7, 5\)\n.*\n.*test.cat.0.png differs from .*train"
    ):
        load(tmp_path)


def test_grey_among_colour_is_named(tmp_path):
    save(write(tmp_path) / "dog" / "2.png", picture(0, (6, 5)))
    with pytest.raises(ValueError, match=r"one number of channels.*\n  found  \(1, 6, 5\)"):
        load(tmp_path)


def test_mode_other_than_grey_and_colour_says_how_to_convert(tmp_path):
    save(write(tmp_path) / "cat" / "0.png", picture(0, (6, 5, 4)))
    with pytest.raises(ValueError, match=r"8-bit grey nor 8-bit colour\n  path  .*0.png'\n  mode  'RGBA'\n.*convert"):
        load(tmp_path)


def test_file_that_is_no_picture_is_named(tmp_path):
    (write(tmp_path) / "cat" / "labels.csv").write_text("")
    with pytest.raises(ValueError, match=r"only pictures may lie in the folder of a class\n  path  .*labels.csv"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 20, -30])
def test_picture_cut_short_is_named(tmp_path, keep):
    path = write(tmp_path) / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError, match=r"cut short or damaged\n  path  .*cat.1.png"):
        load(tmp_path)


def test_class_without_pictures_is_named(tmp_path):
    (write(tmp_path) / "owl").mkdir()
    with pytest.raises(ValueError, match=r"a class has no pictures\n.*\n  classes  \['owl'\]"):
        load(tmp_path)


def test_test_class_that_train_lacks_is_named(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test", classes=("cat", "owl"))
    with pytest.raises(ValueError, match=r"a class that train/ lacks\n.*\n  unknown  \['owl'\]"):
        load(tmp_path)


def test_empty_train_or_test_folder_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="no folders of pictures"):
        load(tmp_path)
    write(tmp_path / "train")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="no test pictures"):
        load(tmp_path)
