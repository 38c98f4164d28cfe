"""The layouts `sparse-bitmask` and `sparse-24-bitmask` of compressed-tensors up to 0.14, which other tools read.

    <module>.shape        int64 [2]                     (sparse-24: [2, 1])
    <module>.compressed   values that are not zero, row-major; sparse-24: [R, C/2], the 2 largest of each 4
    <module>.bitmask      uint8 [R, ⌈C/8⌉], bit k of byte j is column 8 j + k: the first bytes of our words
    <module>.row_offsets  int64 [R], sparse-bitmask only: where each row begins

For two-dimensional weights named *.weight; every other tensor stands there dense. The layouts know no mask: a kept 0.0
or -0.0 is not stored, and comes back as +0.0. Up to version 0.8 the names began with <module>.weight; both are read.
Source: the published format of the compressed-tensors package; the code here is our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import flags, packed, row_offsets
from optprune_fast.formats.checks import WEIGHT_DTYPES, require, require_plane
from optprune_fast.formats.report import FileReport, file_report, foreign_layer_report
from optprune_fast.ops.words import popcount
from optprune_fast.runtime.errors import IntegrityError, message
from optprune_fast.runtime.files import PathLike, write_aside

LAYOUTS = ("sparse-bitmask", "sparse-24-bitmask")
_LAST = {"sparse-bitmask": {"shape", "compressed", "bitmask", "row_offsets"},
         "sparse-24-bitmask": {"shape", "compressed", "bitmask"}}


def compress(bitmask: Bitmask, layout: str) -> tuple[dict[str, Tensor], int]:
    """The tensors of a two-dimensional weight by their last names, and how many kept weights were zero and are lost."""
    rows, columns = bitmask.shape
    weight = bitmask.to_dense()
    kept = weight != 0  # a NaN is not zero
    lost = bitmask.nnz - int(kept.sum())
    if layout == "sparse-24-bitmask":
        kept = _two_of_four(weight)
        shape, compressed = torch.tensor([[rows], [columns]]), weight[kept].view(rows, columns // 2)
    else:
        shape, compressed = torch.tensor([rows, columns]), weight[kept]
    bytes_ = packed(kept).view(torch.uint8)[:, : -(-columns // 8)].contiguous()
    tensors = {"shape": shape, "compressed": compressed, "bitmask": bytes_}
    if layout == "sparse-bitmask":
        tensors["row_offsets"] = row_offsets(packed(kept))[:-1].long()
    return tensors, lost


def decompress(tensors: Mapping[str, Tensor], layout: str) -> Bitmask:
    """A weight from its tensors. Raises `ValueError` where they do not fit one another."""
    where, shape, values, bytes_ = layout, tensors["shape"], tensors["compressed"], tensors["bitmask"]
    require(shape.dtype == torch.int64 and shape.numel() == 2 and bool((shape >= 0).all()), where,
            "shape must be two sizes", shape=shape)
    rows, columns = (int(x) for x in shape.flatten())
    require_plane(where, "bitmask", bytes_, torch.uint8, (rows, -(-columns // 8)))
    require(values.dtype in WEIGHT_DTYPES, where, "values must be floats", compressed=values)
    padded = torch.zeros(rows, -(-columns // 64) * 8, dtype=torch.uint8)
    padded[:, : bytes_.shape[1]] = bytes_
    words = padded.view(torch.int64)
    require(torch.equal(packed(flags(words, columns)), words), where, "bits past the last column must be zero")
    require(int(popcount(words).sum()) == values.numel(), where, "there must be a value for every bit of the bitmask",
            compressed=values, bitmask=bytes_)
    return Bitmask((rows, columns), words, values.flatten(), row_offsets(words))


def write(path: PathLike, masked: Mapping[str, Bitmask], others: Mapping[str, SparseFormat],
          aliases: Mapping[str, tuple[str, ...]], layout: str) -> FileReport:
    """Write a file that compressed-tensors 0.14 reads. The report says how many kept weights were zero and are lost.

    Tied weights stand there once, under their first name.
    """
    tensors: dict[str, Tensor] = {name: held.to_dense() for name, held in others.items()}
    layers, lost, dense = [], 0, sum(held.nbytes for held in others.values())
    for name, bitmask in masked.items():
        if len(bitmask.shape) != 2 or not name.endswith(".weight"):
            tensors[name] = bitmask.to_dense()
            dense += tensors[name].nbytes
            continue
        made, zeros = compress(bitmask, layout)
        tensors |= {f"{name.removesuffix('.weight')}.{last}": tensor for last, tensor in made.items()}
        lost += zeros
        layers.append(foreign_layer_report(name, bitmask, layout, sum(tensor.nbytes for tensor in made.values())))
    with write_aside(path) as aside:
        safetensors.torch.save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, aside,
                                    {"format": "pt"})
    return file_report(path, layout, layers, dense, lost)


def config(layout: str, sparsity: float, version: str = "0.14.0") -> dict[str, Any]:
    """What `quantization_config` of a model's config.json says beside such a file."""
    structure = "2:4" if layout == "sparse-24-bitmask" else "unstructured"
    return {"quant_method": "compressed-tensors", "version": version, "format": "dense", "config_groups": {},
            "sparsity_config": {"format": layout, "targets": ["Linear"], "ignore": [], "global_sparsity": sparsity,
                                "sparsity_structure": structure}}


def read(path: PathLike) -> dict[str, Bitmask | Tensor]:
    """Every weight of such a file as `Bitmask`, and every other tensor as it is."""
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise IntegrityError(message("read", f"not a whole safetensors file: {error}", path=str(path))) from error
    found: dict[str, Bitmask | Tensor] = {}
    for key in [name for name in tensors if name.endswith(".bitmask")]:
        module = key.removesuffix(".bitmask")
        layout = LAYOUTS[0] if f"{module}.row_offsets" in tensors else LAYOUTS[1]
        try:
            parts = {last: tensors.pop(f"{module}.{last}") for last in _LAST[layout]}
            found[f"{module.removesuffix('.weight')}.weight"] = decompress(parts, layout)
        except (KeyError, ValueError) as error:
            raise IntegrityError(message("read", f"{module} is no weight in the layout {layout}: {error}",
                                         path=str(path))) from error
    return found | tensors


def _two_of_four(weight: Tensor) -> Tensor:
    """bool [R, C]: the two largest magnitudes of each four. Which zeros fill up is topk's affair, there as here."""
    rows, columns = weight.shape
    if columns % 4:
        raise ValueError(message("sparse-24-bitmask", "rows must have a multiple of 4 columns", "use sparse-bitmask",
                                 shape=[rows, columns]))
    fours = weight.view(-1, 4)
    if bool(((fours != 0).sum(1) > 2).any()):
        raise ValueError(message("sparse-24-bitmask", "at most 2 weights may be kept in every 4 columns",
                                 "prune by 2:4, or use sparse-bitmask", shape=[rows, columns]))
    largest = fours.abs().topk(2, dim=1).indices
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(1, largest, True).view(rows, columns)
