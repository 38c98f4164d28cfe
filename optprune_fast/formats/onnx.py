"""A pruned model as ONNX: dense weights with exact zeros, which every runtime of that format takes."""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.masks.apply import zero_pruned
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message
from optprune_fast.runtime.files import PathLike, write_aside

NEEDED = ("onnx", "onnxscript")
LARGEST = 2**31 - 1  # bytes: a file of protocol buffers ends there


def to_onnx(model: nn.Module, mask: PackedMasks, path: PathLike, example: tuple[Any, ...]) -> Path:
    """Write a model under a mask as an ONNX file, by torch's exporter; return its path.

    model:    any model that the mask's layout fits and `torch.export` takes; it is not changed. Written in eval mode
    mask:     one mask (`result.mask`). Kept weights keep every bit, pruned ones are zero, so that a runtime that uses
              zeros finds them and every other computes as with a dense model: the file is as large as one. To fold
              batch normalisation into weights is left to the runtime
    path:     of the file; written aside and renamed
    example:  the model's arguments. The number of samples stays free if the example has two or more

    Needs the packages onnx and onnxscript (`pip install 'optprune-fast[onnx]'`). Raises `ImportError` without them,
    `ValueError` if the mask does not fit or the weights take more than 2 GiB.
    """
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise ImportError(message("to_onnx", f"{' and '.join(lacking)} must be installed",
                                  "pip install 'optprune-fast[onnx]'", path=str(path)))
    if len(mask) != 1:
        raise ValueError(message("to_onnx", "one mask at a time", "masks[i]", mask=mask))
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))  # tied ones once
    if size > LARGEST:
        raise ValueError(message("to_onnx", "the weights must fit into one file of 2 GiB",
                                 "opf.export writes files of any size", bytes=size))
    pruned = deepcopy(model).eval()
    zero_pruned(pruned, mask)
    free = tuple({0: torch.export.Dim.AUTO} if isinstance(value, Tensor) and value.dim() else None for value in example)
    with write_aside(path) as aside:
        program = torch.onnx.export(pruned, example, dynamo=True, dynamic_shapes=free, verbose=False,
                                    optimize=False)  # it would fold batch normalisation and write tied weights twice
        assert program is not None
        program.save(aside, external_data=False)
    return Path(path)
