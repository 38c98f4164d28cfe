"""The rules for samples, whatever file they came from."""

from __future__ import annotations

import numpy
import torch

from optprune_fast.data.dataset import Array, Samples
from optprune_fast.runtime.errors import message

# Labels up to here need no explanation, however few samples there are.
MANY_CLASSES = 1000


def checked_samples(name: str, part: str, x: Array, y: Array) -> Samples:
    """Inputs as float32 [N, ...] (8-bit values divided by 255) and labels as int64 [N], or the rule they break."""
    where = f"load {name}"
    if x.dtype.kind not in "buif":
        raise ValueError(message(where, f"the {part} inputs must be numbers", dtype=str(x.dtype)))
    if x.ndim < 2:
        raise ValueError(message(where, f"the {part} inputs must have the shape [N, ...]", shape=x.shape))
    if x.size == 0:
        raise ValueError(message(where, f"the {part} part is empty", shape=x.shape))
    if y.ndim != 1:
        way_out = "y.reshape(-1) drops an idle dimension; y.argmax(1) undoes one-hot labels"
        raise ValueError(message(where, f"the {part} labels must have the shape [N]", way_out, shape=y.shape))
    if len(x) != len(y):
        raise ValueError(message(where, f"the {part} part needs one label per input", inputs=len(x), labels=len(y)))
    if y.dtype.kind not in "iu":
        way_out = 'y.astype("int64") where they are whole numbers'
        raise ValueError(message(where, f"the {part} labels must be integers", way_out, dtype=str(y.dtype)))
    targets = torch.from_numpy(y.astype("int64"))
    if targets.min() < 0:
        row = int(targets.argmin())
        raise ValueError(message(where, f"the {part} labels must be at least 0", label=int(targets[row]), row=row))
    with numpy.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which the next rule refuses
        inputs = torch.from_numpy(x.astype("float32"))
    if x.dtype == "uint8":
        inputs.div_(255)
    # min and max see every NaN and infinity without a boolean copy of the whole tensor.
    if not (inputs.min().isfinite() and inputs.max().isfinite()):
        row = int(inputs.flatten(1).isfinite().all(1).logical_not().nonzero()[0])
        raise ValueError(message(where, f"the {part} inputs hold NaN or infinity (as float32)", first_row=row))
    return inputs, targets


def class_count(
    name: str, train: Samples, test: Samples | None, class_names: tuple[str, ...] | None, classes: int | None
) -> int:
    """How many classes there are: as stated, else as the names or the training labels show."""
    where = f"load {name}"
    if test is not None and test[0].shape[1:] != train[0].shape[1:]:
        rule = "training and test inputs must have one shape"
        raise ValueError(message(where, rule, train=tuple(train[0].shape[1:]), test=tuple(test[0].shape[1:])))
    largest = int(train[1].max())
    found = largest + 1 if class_names is None else len(class_names)
    if classes is not None:
        if classes < found:
            raise ValueError(message(where, "labels must be below classes", classes=classes, largest_label=found - 1))
        found = classes
    if test is not None and int(test[1].max()) >= found:
        rule = "the test part has a label that the training part lacks"
        raise ValueError(message(where, rule, label=int(test[1].max()), classes=found))
    # A label such as a year or an identifier would ask for a network of as many outputs.
    if classes is None and class_names is None and found > max(MANY_CLASSES, len(train[1])):
        way_out = "number the classes from 0, or state classes="
        rule = f"the largest label is beyond both {MANY_CLASSES} and the number of samples"
        raise ValueError(message(where, rule, way_out, label=largest, samples=len(train[1])))
    return found
