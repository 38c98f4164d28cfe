"""Built-in name `digits`: the 1,797 handwritten digits of 8x8 pixels that scikit-learn carries."""

from __future__ import annotations

import importlib

import torch

from optprune_fast.data.dataset import Raw
from optprune_fast.data.subset import stratified
from optprune_fast.runtime.errors import message

TEST_SHARE = 0.25
LARGEST = 16  # the pixels are counts 0 .. 16 of a 4x4 block of a scan


def read_digits(seed: int) -> Raw:
    """Pictures [N, 1, 8, 8] in [0, 1]. The file has no split of its own: a stratified quarter becomes the test part."""
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        way_out = 'pip install "optprune-fast[data]"'
        raise ImportError(message("load digits", "needs scikit-learn, which is not installed", way_out)) from error
    pixels, labels = datasets.load_digits(return_X_y=True)
    x = (pixels / LARGEST).astype("float32").reshape(-1, 1, 8, 8)
    rest, drawn = (rows.numpy() for rows in stratified(torch.from_numpy(labels), TEST_SHARE, seed))
    return Raw("digits", (x[rest], labels[rest]), (x[drawn], labels[drawn]), tuple("0123456789"))
