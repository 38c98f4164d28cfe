"""Where each weight's bit lies: the mask layout of docs/FORMATS.md.

    layer  [O, …] = O rows of I bits; each row starts on a word; layers follow one another

    words  | row 0 of layer 0 | row 1 … | row 0 of layer 1 | …
             64 w + j ─ bit j of word w of a row ─ weight 64 w + j of that row
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from optprune_fast.masks.selection import Rules, prunable_names, tied_names
from optprune_fast.ops.cuda_support import sent
from optprune_fast.ops.words import WORD_BITS, matrix, tail_mask, word_count
from optprune_fast.runtime.errors import message


@dataclass(frozen=True)
class Layer:
    """One prunable parameter: a matrix of `rows` rows of `columns` bits.

    first_word, first_weight: where it starts in a mask of the layout
    aliases: other names of the same parameter (tied weights), which are counted once
    """

    name: str
    shape: tuple[int, ...]
    first_word: int
    first_weight: int
    aliases: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return matrix(self.shape)[0]

    @property
    def columns(self) -> int:
        return matrix(self.shape)[1]

    @property
    def row_words(self) -> int:
        return word_count(self.columns)

    @property
    def words(self) -> slice:
        return slice(self.first_word, self.first_word + self.rows * self.row_words)

    @property
    def weights(self) -> slice:
        return slice(self.first_weight, self.first_weight + self.rows * self.columns)


@dataclass(frozen=True)
class MaskLayout:
    """The prunable weights of a model and the bit that stands for each.

    layers:  one `Layer` a prunable parameter, in the order of the model's named parameters
    n:       prunable weights, tied parameters once
    W:       64-bit words of a mask

    >>> layout = MaskLayout.of(nn.Sequential(nn.Linear(65, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> layout.n, layout.W, [layer.name for layer in layout]
    (201, 8, ['0.weight', '2.weight'])
    """

    layers: tuple[Layer, ...]

    @staticmethod
    def of(model: nn.Module, include: Rules | None = None, exclude: Rules | None = None) -> MaskLayout:
        """The layout of a model: the weights of its Linear, Conv1d and Conv2d modules.

        include:  instead of these, what matches: name patterns ("encoder.*", "fc?.weight") and module types
        exclude:  of these, not what matches; a tied weight is pruned under all its names or under none

        Raises `ValueError` if a rule matches nothing or if nothing is left.
        """
        names = prunable_names(model, include, exclude)
        if not names:
            hint = "it was pruned by torch.nn.utils.prune: " if any(
                name.endswith("weight_orig") for name, _ in model.named_parameters()) else ""
            raise ValueError(message(
                "MaskLayout.of", f"{hint}nothing to prune is left", "include= names the weights, for example "
                "include='*.weight'; torch.nn.utils.prune.remove makes pruned weights plain again",
                model=type(model).__name__, include=include, exclude=exclude))
        parameters = dict(model.named_parameters())
        aliases = tied_names(model)
        return MaskLayout.from_shapes({name: tuple(parameters[name].shape) for name in names},
                                      {name: tuple(sorted(aliases[name] - {name})) for name in names})

    @staticmethod
    def from_shapes(shapes: Mapping[str, tuple[int, ...]],
                    aliases: Mapping[str, tuple[str, ...]] | None = None) -> MaskLayout:
        """The layout of parameters with these names and shapes, in this order."""
        layers, word, weight = [], 0, 0
        for name, shape in shapes.items():
            if not shape:
                raise ValueError(message("MaskLayout", "a scalar parameter has no weights to choose from", layer=name))
            layer = Layer(name, tuple(shape), word, weight, (aliases or {}).get(name, ()))
            layers.append(layer)
            word, weight = layer.words.stop, layer.weights.stop
        return MaskLayout(tuple(layers))

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if name == layer.name or name in layer.aliases:
                return layer
        raise KeyError(message("MaskLayout", "no such layer", "layers: " + ", ".join(x.name for x in self), name=name))

    @cached_property
    def n(self) -> int:
        return self.layers[-1].weights.stop if self.layers else 0

    @cached_property
    def W(self) -> int:
        return self.layers[-1].words.stop if self.layers else 0

    @cached_property
    def valid(self) -> Tensor:
        """int64 [W]: the words of the mask that keeps everything; a bit outside has no weight."""
        out = torch.full((self.W,), -1)
        for layer in self.layers:
            if layer.columns:
                out[layer.words].view(layer.rows, layer.row_words)[:, -1] = tail_mask(layer.columns)
        return out

    def valid_on(self, device: torch.device | str) -> Tensor:
        """`valid` on a device, to which it is sent once."""
        device = torch.device(device)
        if device not in self._valid_on:
            self._valid_on[device] = sent(self.valid, device)
        return self._valid_on[device]

    @cached_property
    def _valid_on(self) -> dict[torch.device, Tensor]:
        return {}

    def __getstate__(self) -> dict[str, tuple[Layer, ...]]:
        """Without what is made on first need: it may lie on a device that is not where this is read."""
        return {"layers": self.layers}

    @cached_property
    def _starts(self) -> Tensor:
        return torch.tensor([[x.first_weight, x.columns, x.first_word, x.row_words] for x in self.layers if x.columns])

    def positions(self, indices: Tensor) -> Tensor:
        """The bit position `64 w + j` in a mask of each flat weight index.

        indices:  int64 [...], 0 <= i < n
        returns:  int64 [...]

        >>> MaskLayout.from_shapes({"w": (2, 65)}).positions(torch.tensor([0, 64, 65]))
        tensor([  0,  64, 128])
        """
        starts = self._starts.to(indices.device)
        row = starts[torch.searchsorted(starts[:, 0].contiguous(), indices, right=True) - 1]
        weight, columns, word, row_words = row.unbind(-1)
        local = indices - weight
        return (word + local // columns * row_words) * WORD_BITS + local % columns

    def budget(self, sparsity: float) -> int:
        """Kept weights `k = n - round(sparsity * n)` of a sparsity in [0, 1).

        >>> MaskLayout.from_shapes({"w": (40, 809)}).budget(0.9)
        3236
        """
        if not 0 <= sparsity < 1:
            raise ValueError(message("budget", "sparsity must lie in [0, 1): the fraction of weights to prune",
                                     sparsity=sparsity))
        kept = self.n - round(sparsity * self.n)
        if kept < 1:
            raise ValueError(message("budget", f"no weight of {self.n} would be kept", "choose a lower sparsity",
                                     sparsity=sparsity))
        return kept

    def to_json(self) -> str:
        """The layout as canonical JSON; `from_json` reads it, `digest` identifies it."""
        rows = [[x.name, list(x.shape), list(x.aliases)] for x in self.layers]
        return json.dumps(rows, separators=(",", ":"), ensure_ascii=True)

    @staticmethod
    def from_json(text: str) -> MaskLayout:
        rows = json.loads(text)
        return MaskLayout.from_shapes({name: tuple(shape) for name, shape, _ in rows},
                                      {name: tuple(aliases) for name, _, aliases in rows})

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and shapes: equal layouts have equal digests."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def weights_of(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's prunable tensors, in layout order. Raises `ValueError` if they do not fit the layout."""
        parameters = dict(model.named_parameters())
        for layer in self.layers:
            held = parameters.get(layer.name)
            if held is None or tuple(held.shape) != layer.shape:
                seen = "missing" if held is None else list(held.shape)
                raise ValueError(message("MaskLayout", "the model does not have this layout's parameters",
                                         "use the model that the layout was made from", layer=layer.name,
                                         expected=list(layer.shape), seen=seen))
        return {layer.name: parameters[layer.name].detach() for layer in self.layers}


def check_finite(weights: dict[str, Tensor]) -> None:
    """Raise `ValueError` naming the layer if a weight is NaN or infinite."""
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(message("weights", "weights must be finite", "a NaN or infinite weight poisons every "
                                     "fitness; mend the model first", layer=name, weight=weight))
