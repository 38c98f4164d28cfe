"""`optprune_fast.export`: a model and a mask become a file of sparse weights."""

from __future__ import annotations

from torch import Tensor, nn

from optprune_fast.formats import compressed_tensors
from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.choose import TARGETS, check_values, choose, with_values
from optprune_fast.formats.dense import Dense
from optprune_fast.formats.file import write
from optprune_fast.formats.registry import FORMATS
from optprune_fast.formats.report import FileReport, LayerReport, file_report, layer_report
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import message
from optprune_fast.runtime.files import PathLike


def export(model: nn.Module, mask: PackedMasks, path: PathLike, *, format: str = "auto", target: str = "cpu",
           values: str = "raw") -> FileReport:
    """Write the weights of a model under a mask, and everything else of its state as it is.

    model:   any model that the mask's layout fits; it is not changed
    mask:    one mask (`result.mask`). Kept weights keep every bit, also zeros, -0.0 and NaN; pruned ones become +0.0
    path:    of the file, for example model.safetensors; written aside and renamed
    format:  "auto": for each layer the smallest that the target can run. Or one of the formats of docs/FORMATS.md for
             all layers: "dense" (exact zeros; every safetensors reader loads it), "bitmask", "tiled_index", "csr",
             "delta_csr", "two_four", "block", "entropy"; or "sparse-bitmask" or "sparse-24-bitmask", the layouts of
             compressed-tensors
    target:  "cpu" or "gpu": laid out as it will run. "disk": the smallest; decoded when it is loaded
    values:  "raw", or "exponent": bfloat16 and float16 values in about 10 and 13 bits, without loss

    Returns what was written, layer by layer. Raises `ValueError` if the mask or a format does not fit.

    >>> import tempfile, optprune_fast as opf
    >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export(net, opf.magnitude(net, 0.9).mask, f"{folder}/net.safetensors")
    >>> [(layer.name, layer.format, layer.kept) for layer in report.layers][0][:2], report.file_bytes < 2900
    (('0.weight', 'tiled_index'), True)
    """
    if len(mask) != 1:
        raise ValueError(message("export", "one mask at a time", "masks[i]", mask=mask))
    if target not in TARGETS:
        raise ValueError(message("export", f"target must be one of {', '.join(TARGETS)}", target=target))
    check_values(values)
    known = ("auto", *FORMATS, *compressed_tensors.LAYOUTS)
    if format not in known:
        raise ValueError(message("export", f"format must be one of {', '.join(known)}", format=format))
    names, aliases = _state(model, mask)
    layers: list[LayerReport] = []
    weights: dict[str, SparseFormat] = {}
    masked: dict[str, Bitmask] = {}
    pruned = mask.layout.weights_of(model)
    for name, tensor in names.items():
        if name not in pruned:
            weights[name] = Dense.of(tensor)
            continue
        bitmask = Bitmask.of(tensor.detach().cpu(), mask.layer_words(name)[0].cpu())
        if format in compressed_tensors.LAYOUTS:
            masked[name] = bitmask
            continue
        weights[name] = held = _formatted(name, bitmask, format, target, values)
        if not isinstance(held, Dense):
            layers.append(layer_report(name, held, bitmask))
    if format in compressed_tensors.LAYOUTS:
        return compressed_tensors.write(path, masked, weights, aliases, format)
    write(path, weights, {"target": target, "layout": mask.layout.to_json()}, aliases)
    return file_report(path, target, layers, sum(held.nbytes for held in weights.values() if isinstance(held, Dense)))


def _formatted(name: str, bitmask: Bitmask, format: str, target: str, values: str) -> SparseFormat:
    try:
        if format == "auto":
            return choose(bitmask, target, values)
        return with_values(FORMATS[format].from_bitmask(bitmask), values)
    except ValueError as error:
        raise ValueError(message("export", f"{name} cannot be written in this format: {error}",
                                 format=format)) from error


def _state(model: nn.Module, mask: PackedMasks) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """Every tensor of the model's state once, and its other names; a pruned one under its name in the layout."""
    first: dict[int, str] = {}
    names: dict[str, Tensor] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    parameters = dict(model.named_parameters())
    for layer in mask.layout:
        if layer.name in parameters:
            first[id(parameters[layer.name])] = layer.name
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise TypeError(message("export", "the model's state holds something that is no tensor", "extra state has "
                                    "no place in a file of tensors", name=name, held=tensor))
        main = first.setdefault(id(tensor), name)
        names.setdefault(main, tensor)
        if main != name:
            aliases[main] = (*aliases.get(main, ()), name)
    return names, aliases
