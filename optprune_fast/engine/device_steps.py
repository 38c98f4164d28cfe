"""A graph as the steps of a GPU: masked layers by our kernels, with what follows them in the store, all else by torch.

    conv2d ─▶ relu ─▶ max_pool ─▶ reshape ─▶ linear ─▶ relu ─▶ linear ─▶ loss
    └─ one kernel ─┘  └──── torch ────────┘  └ one kernel ─┘  └ one kernel ─┘

Values that are the same for all candidates are [B, …], and computed once; those that differ are [P, B, …]. Torch sees
the latter as P · B samples: a graph mixes none (`plan/check.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from optprune_fast.masks.layout import Layer, MaskLayout
from optprune_fast.ops import masked_conv2d, masked_linear
from optprune_fast.ops.precision import PRECISIONS
from optprune_fast.ops.triton_support import MOST_CLASSES, Epilogue
from optprune_fast.plan.fold import folded
from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.reference import FORMULAS
from optprune_fast.plan.refusal import CannotLower
from optprune_fast.runtime.dispatch import calls

OPERATIONS = {"linear": masked_linear.operation, "conv2d": masked_conv2d.operation}
FUSED_LOSSES = ("cross_entropy", "error")
BACKEND = "triton"


@dataclass(frozen=True)
class Value:
    """[B, …], the same for all candidates; or [P, B, …], where `own`."""

    tensor: Tensor
    own: bool


@dataclass(frozen=True, eq=False)
class TorchStep:
    """A node that torch runs, on all candidates as one batch where they differ.

    shape:   of one sample of its output
    shared:  whether what it reads is the same for all candidates
    """

    node: Node
    shape: tuple[int, ...]
    shared: bool

    @property
    def output(self) -> int:
        return self.node.output

    def __call__(self, given: Mapping[int, Value], constants: Mapping[int, Tensor], state: Mapping[str, Tensor],
                 candidates: int, samples: int) -> Value:
        batch = samples if self.shared else candidates * samples

        def batched(i: int) -> Tensor:
            tensor = given[i].tensor
            if self.shared:
                return tensor
            return (tensor if given[i].own else tensor.expand(candidates, *tensor.shape)).flatten(0, 1)

        if self.node.op == "torch":
            out = self.node.attributes["call"](*(constants[i] if i in constants else batched(i)
                                                 for i in self.node.inputs))
        else:
            inputs = [constants[i].expand(batch, *constants[i].shape) if i in constants else batched(i)
                      for i in self.node.inputs]
            out = FORMULAS[self.node.op](self.node, inputs, state, (batch, *self.shape))
        return Value(out if self.shared else out.unflatten(0, (candidates, samples)), not self.shared)


@dataclass(frozen=True, eq=False)
class MaskedStep:
    """A masked layer, its batch normalisation folded in, with the bias and the activation that follow.

    output:   the value that it makes, behind the activation
    shared:   whether its input is the same for all candidates
    weight:   [O, I] or [O, C/groups, kh, kw], in the type that the precision rounds factors to
    stored:   the type that its output is kept in
    """

    node: Node
    output: int
    layer: Layer
    shared: bool
    weight: Tensor
    epilogue: Epilogue
    precision: str
    stored: torch.dtype

    @cached_property
    def kernels(self) -> Any:
        return OPERATIONS[self.node.op].implementation(BACKEND)

    def words(self, words: Tensor) -> Tensor:
        """int64 [P, O, ⌈I/64⌉]: this layer's part of the words of masks, as they lie."""
        first = self.layer.first_word
        mine = words[:, first:first + self.layer.rows * self.layer.row_words]
        return mine.reshape(len(words), self.layer.rows, self.layer.row_words)

    def __call__(self, given: Mapping[int, Value], words: Tensor) -> Value:
        x = given[self.node.inputs[0]]
        calls[OPERATIONS[self.node.op].name, BACKEND] += 1
        how = {"precision": self.precision, "epilogue": self.epilogue, "dtype": self.stored}
        if self.node.op == "conv2d":
            at = self.node.attributes
            geometry = at["stride"], at["padding"], at["dilation"], at["groups"]
            return Value(self.kernels.fused(x.tensor, self.weight, self.words(words), *geometry, **how), True)
        out: Tensor = self.kernels.fused(self.rows(x), self.weight, self.words(words), **how)
        return Value(out.unflatten(1, x.tensor.shape[x.own:-1]), True)  # samples, and positions

    def sums(self, given: Mapping[int, Value], words: Tensor) -> Tensor:
        """float32 [P, samples · positions, O]: of a linear layer, before the activation."""
        calls[OPERATIONS[self.node.op].name, BACKEND] += 1
        out: Tensor = self.kernels.fused(self.rows(given[self.node.inputs[0]]), self.weight, self.words(words),
                                         precision=self.precision, epilogue=Epilogue(self.epilogue.bias),
                                         dtype=torch.float32)
        return out

    def losses(self, given: Mapping[int, Value], words: Tensor, targets: Tensor, objective: str) -> Tensor:
        """float32 [P, B]: the loss of each sample, of this as the last layer, whose outputs are not stored."""
        calls[OPERATIONS[self.node.op].name, BACKEND] += 1
        out: Tensor = self.kernels.losses(self.rows(given[self.node.inputs[0]]), self.weight, self.words(words),
                                          self.epilogue.bias, targets, objective, self.precision)
        return out

    def rows(self, x: Value) -> Tensor:
        """[P, samples · positions, I], or without P where the candidates share it."""
        return x.tensor.flatten(1, -2) if x.own else x.tensor.flatten(0, -2)

    def has_loss(self, shape: tuple[int, ...]) -> bool:
        """Whether it can give losses in the place of outputs of this shape."""
        plain = self.node.op == "linear" and self.epilogue.activation == "none"
        return plain and len(shape) == 1 and shape[0] <= MOST_CLASSES


Step = TorchStep | MaskedStep


def steps_of(graph: Graph, layout: MaskLayout, state: Mapping[str, Tensor], precision: str) -> tuple[Step, ...]:
    """The steps of a graph in the order in which they run.

    Raises `CannotLower` where a pruned weight is not that of a linear layer or a convolution.
    """
    layers, users = {layer.name: layer for layer in layout}, _users(graph)
    narrow = narrow_values(graph, layers, precision)
    steps: list[Step] = []
    done: set[int] = set()
    own: set[int] = set()  # values that are not the same for all candidates
    for node in graph.nodes:
        pruned = layers.keys() & set(node.tensors.values())
        if node.op in ("input", "constant") or node.output in done:
            continue
        if pruned and node.op not in OPERATIONS:
            raise CannotLower(f"{node.op} has no step on masked weights ({', '.join(sorted(pruned))})")
        shared = not own.intersection(node.inputs)
        if pruned:
            activation = _activation(graph, node, users)
            done.update(() if activation is None else (activation.output,))
            layer = layers[node.tensors["weight"]]
            steps.append(_masked(node, activation, layer, shared, state, precision, narrow))
        else:
            steps.append(TorchStep(node, graph.shapes[node.output], shared))
        if pruned or not shared:
            own.add(steps[-1].output)
    return tuple(steps)


def narrow_values(graph: Graph, layers: Mapping[str, Layer], precision: str) -> frozenset[int]:
    """Values that masked layers alone read, if factors have 16 bits: rounded when stored, they are the same factors."""
    if PRECISIONS[precision].dtype.itemsize == 4:
        return frozenset()
    users = _users(graph)
    masked = {node.output for node in graph.nodes if node.tensors.get("weight") in layers}

    def only_factors(value: int) -> bool:
        readers = users.get(value, [])
        return bool(readers) and value not in graph.integers and all(user.output in masked for user in readers)
    return frozenset(filter(only_factors, graph.shapes))


def _users(graph: Graph) -> dict[int, list[Node]]:
    users: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            users.setdefault(value, []).append(node)
    return users


def _activation(graph: Graph, node: Node, users: Mapping[int, list[Node]]) -> Node | None:
    """The activation that alone reads what a layer makes."""
    readers = users.get(node.output, [])
    alone = len(readers) == 1 and readers[0].op == "activation" and node.output != graph.output
    return readers[0] if alone else None


def _masked(node: Node, activation: Node | None, layer: Layer, shared: bool, state: Mapping[str, Tensor],
            precision: str, narrow: frozenset[int]) -> MaskedStep:
    matrix, bias = folded(node, state)
    if node.op == "conv2d":
        kernel = node.attributes["kernel"]
        matrix = matrix.reshape(len(matrix), matrix.shape[1] // (kernel[0] * kernel[1]), *kernel)
    output, epilogue = node.output, Epilogue(bias)
    if activation is not None:
        output = activation.output
        epilogue = Epilogue(bias, activation.attributes["kind"], tuple(activation.attributes["parameters"]))
    factors = PRECISIONS[precision].dtype
    stored = factors if output in narrow else torch.float32
    return MaskedStep(node, output, layer, shared, matrix.to(factors), epilogue, precision, stored)
