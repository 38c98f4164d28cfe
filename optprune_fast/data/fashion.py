"""Built-in name `fashion-mnist`: Zalando's 70,000 pictures of clothes, 28x28, from files that are already here."""

from __future__ import annotations

from pathlib import Path

from optprune_fast.data.dataset import Raw
from optprune_fast.data.idx import read_idx_folder
from optprune_fast.runtime.errors import message

# Where Debian's package dataset-fashion-mnist puts its files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# sha256 of the idx bytes. Not of the .gz files: Debian compressed them anew, so those differ from the originals.
DIGESTS = {
    "train-images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def read_fashion_mnist(folder: Path | None) -> Raw:
    """Pictures [N, 1, 28, 28]; every file must be the published one, bit for bit."""
    place = DEBIAN_FOLDER if folder is None else folder
    if not place.is_dir():
        way_out = "apt install dataset-fashion-mnist, or path= a folder that holds its four idx files"
        raise FileNotFoundError(message("load fashion-mnist", "there is no such folder", way_out, path=str(place)))
    raw = read_idx_folder(place, digests=DIGESTS)
    return Raw("fashion-mnist", raw.train, raw.test, CLASS_NAMES)
