"""A folder of pictures: `<class>/<picture>.png`, alone or under `train/` and `test/`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy

from optprune_fast.data.dataset import Array, Raw
from optprune_fast.runtime.errors import IntegrityError, message

ENDINGS = (".png", ".jpg", ".jpeg")
MODES = ("L", "RGB")  # Pillow's names for 8-bit grey and 8-bit colour


def holds_folders(folder: Path) -> bool:
    """Whether the folder has at least one folder that could be a class."""
    return bool(_folders(folder))


def read_picture_folder(folder: Path) -> Raw:
    """Pictures uint8 [N, 1 or 3, H, W], ordered by class and file name; classes are numbered by name."""
    image = _pillow()
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    class_names = tuple(place.name for place in _folders(train_folder))
    if not class_names:
        raise ValueError(message("load", "there are no folders of pictures", _expected(), path=str(train_folder)))
    train_files = _files(train_folder, class_names)
    empty = sorted(set(class_names) - {path.parent.name for path in train_files})
    if empty:
        raise ValueError(message("load", "a class has no pictures", _expected(), path=str(train_folder), classes=empty))
    first = train_files[0]
    train = _read(image, train_files, first, class_names)
    test = None
    if train_folder != folder and (folder / "test").is_dir():
        unknown = sorted({place.name for place in _folders(folder / "test")} - set(class_names))
        if unknown:
            rule = "test/ has a class that train/ lacks"
            raise ValueError(message("load", rule, path=str(folder), unknown=unknown))
        test_files = _files(folder / "test", class_names)
        if not test_files:
            raise ValueError(message("load", "there are no test pictures", _expected(), path=str(folder / "test")))
        test = _read(image, test_files, first, class_names)
    return Raw(folder.name, train, test, class_names)


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ModuleNotFoundError as error:
        way_out = 'pip install "optprune-fast[data]"'
        raise ImportError(message("load", "pictures need Pillow, which is not installed", way_out)) from error


def _expected() -> str:
    return f"expected <class>/<picture> with one of the endings {', '.join(ENDINGS)}"


def _folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))


def _files(folder: Path, class_names: tuple[str, ...]) -> list[Path]:
    files = []
    for name in class_names:
        places = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
        for place in places:
            if place.name.startswith("."):
                continue
            if not place.is_file() or place.suffix.lower() not in ENDINGS:
                # Left out in silence, a class of .bmp files would simply be missing from the accuracy.
                rule = "only pictures may lie in the folder of a class"
                raise ValueError(message("load", rule, _expected(), path=str(place)))
            files.append(place)
    return files


def _read(image: Any, files: list[Path], first: Path, class_names: tuple[str, ...]) -> tuple[Array, Array]:
    model = _decode(image, first)
    pictures = numpy.empty((len(files), *model.shape), dtype="uint8")
    for row, path in enumerate(files):
        picture = _decode(image, path)
        if picture.shape != model.shape:
            rule = "all pictures must have one size and one number of channels, [channels, height, width]"
            way_out = f"{path} differs from {first}"
            raise ValueError(message("load", rule, way_out, found=picture.shape, first=model.shape))
        pictures[row] = picture
    labels = numpy.array([class_names.index(path.parent.name) for path in files], dtype="int64")
    return pictures, labels


def _decode(image: Any, path: Path) -> Array:
    try:
        with image.open(path) as picture:
            mode = picture.mode
            values: Array = numpy.asarray(picture)
    except (OSError, SyntaxError) as error:
        rule = "the picture is cut short or damaged"
        raise IntegrityError(message("load", rule, path=str(path), cause=str(error))) from error
    if mode not in MODES:
        rule = "the picture is neither 8-bit grey nor 8-bit colour"
        way_out = 'PIL.Image.open(path).convert("RGB").save(path) makes it 8-bit colour'
        raise ValueError(message("load", rule, way_out, path=str(path), mode=mode))
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
