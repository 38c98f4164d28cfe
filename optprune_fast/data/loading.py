"""`load`: the one way in. Finds the reader; checks and normalises what it read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from optprune_fast.data.checks import checked_samples, class_count
from optprune_fast.data.dataset import Dataset, Raw
from optprune_fast.data.digits import read_digits
from optprune_fast.data.fashion import read_fashion_mnist
from optprune_fast.data.idx import holds_idx, read_idx_folder
from optprune_fast.data.normal import normalised, statistics
from optprune_fast.data.npz import read_npz
from optprune_fast.data.pictures import holds_folders, read_picture_folder
from optprune_fast.data.subset import limited
from optprune_fast.runtime.errors import message

NAMES = ("digits", "fashion-mnist")


def load(
    name_or_path: str | os.PathLike[str],
    *,
    path: str | os.PathLike[str] | None = None,
    classes: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Labelled samples from this machine's disk.

    name_or_path:  `"digits"` (scikit-learn's 8x8 digits; a stratified quarter, drawn by `seed`, is the test part),
                   `"fashion-mnist"` (Debian's package dataset-fashion-mnist, or the folder `path`; digests checked),
                   a folder of idx files named as MNIST's (`train-images-idx3-ubyte[.gz]`, ..., `t10k-...`),
                   a folder of pictures `<class>/<picture>.png` (or .jpg), alone or under `train/` and `test/`,
                   or a .npz file with arrays `x`, `y` or `x_train`, `y_train`, `x_test`, `y_test`.
                   A name wins over a folder of that name: write `./digits` for the folder.
    classes:       how many there are; None counts up to the largest label
    mean, std:     inputs become `(x - mean) / std`, where 8-bit values are first divided by 255 and digits by 16.
                   A number, or one per channel of pictures [N, C, H, W]; None takes it from the whole training part
                   (a spread of 0 becomes 1). `mean=0, std=1` leaves the values alone.
    limit:         at most so many samples, drawn by `seed`, of the training and of the test part
    raises:        `FileNotFoundError`, `ValueError`; `IntegrityError` for a file that is cut short or altered;
                   `ImportError` where the package that reads a format is missing

    >>> load("digits", limit=100).train[0].shape
    torch.Size([100, 1, 8, 8])
    """
    if limit is not None and limit < 1:
        raise ValueError(message("load", "limit must be at least 1, or None for all samples", limit=limit))
    raw = _read(name_or_path, path, seed)
    train = checked_samples(raw.name, "training", *raw.train)
    test = None if raw.test is None else checked_samples(raw.name, "test", *raw.test)
    found = class_count(raw.name, train, test, raw.class_names, classes)
    used_mean, used_std = statistics(train[0], mean, std)
    # The statistics come before the limit, so that a subset is normalised exactly as the whole.
    train = normalised(limited(train, limit, seed), used_mean, used_std)
    if test is not None:
        test = normalised(limited(test, limit, seed), used_mean, used_std)
    names = (raw.class_names or ()) + tuple(str(label) for label in range(len(raw.class_names or ()), found))
    return Dataset(raw.name, train, test, found, names, used_mean, used_std)


def _read(name_or_path: str | os.PathLike[str], path: str | os.PathLike[str] | None, seed: int) -> Raw:
    name = os.fspath(name_or_path)
    if name == "fashion-mnist":
        return read_fashion_mnist(None if path is None else Path(path))
    if path is not None:
        rule = "path= says where the files of 'fashion-mnist' lie; nothing else takes it"
        raise ValueError(message("load", rule, "give the folder itself as the first argument", name=name, path=path))
    if name == "digits":
        return read_digits(seed)
    place = Path(name)
    if not name or not place.exists():  # Path("") would be the working folder
        if place.suffix == "" and len(place.parts) <= 1:
            known = ", ".join(NAMES)
            raise ValueError(message("load", f"is neither a built-in name ({known}) nor a path that exists", name=name))
        raise FileNotFoundError(message("load", "there is no such file or folder", path=name))
    if place.is_file():
        if place.suffix == ".npz":
            return read_npz(place)
        raise ValueError(message("load", "a file must be a .npz; idx files and pictures come as a folder", path=name))
    if holds_idx(place):
        return read_idx_folder(place)
    if holds_folders(place):
        return read_picture_folder(place)
    rule = "the folder holds neither idx files nor one folder of pictures per class"
    way_out = "expected train-images-idx3-ubyte[.gz] and its labels, or <class>/<picture>.png"
    raise ValueError(message("load", rule, way_out, path=name))
