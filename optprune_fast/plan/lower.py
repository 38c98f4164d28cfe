"""From a graph to a program: where each value lies, which steps melt into one, which weights a step multiplies.

    narrow │ conv2d  pool  matmul  embedding  linear over positions     one register of samples at a time
           ▼ widen
    wide   │ linear  activation  loss                                   `width` registers: one weight, many samples

Pictures are kept narrow, so that they fit into the caches; from the last step that has positions on, the tile is wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import rules
from optprune_fast.plan.arena import assign
from optprune_fast.plan.consumers import readers
from optprune_fast.plan.graph import Graph, Node
from optprune_fast.plan.placed import Buffer, Placed, Space, contiguous, in_order, order_of, picture
from optprune_fast.plan.program import InputUse, LayerUse, Program, Step
from optprune_fast.plan.refusal import CannotLower, refusal
from optprune_fast.plan.turns import in_turns

POSITIONAL = {"conv2d", "max_pool", "avg_pool", "matmul", "embedding", "halo", "regroup", "spread"}
KEEPS_ORDER = {"activation", "add", "sub", "mul", "scale", "affine", "layer_norm"}
MOST_CHAINED = 16  # layers that csrc/kernels/moves/chain.h has room for
# Steps whose kernel applies an activation to what it writes, whichever it is.
ACTIVATING = {"linear", "add", "sub", "mul", "scale", "max_pool", "avg_pool", "mean"}


def lower(graph: Graph, layout: MaskLayout, state: Mapping[str, Tensor], width: int, *, reuse: bool = True,
          apart: int = 0, loss: bool = True, in_place: bool = False, turns: bool = False) -> Program:
    """The program of a graph with these weights.

    width:  registers of samples in a wide tile, 1 to 8
    reuse:  values that are never alive together share memory
    apart:  so many last layers leave the activation that follows to a step of its own; all others apply it
    loss:   there is room for the dense outputs, which some losses need; without it the program is for its outputs only
    in_place:  a convolution that adds a picture may write over it, as the kernel reads a number before it writes there
    turns:  steps between which values outgrow the cache take turns (plan/turns.py)

    Raises `CannotLower` where a node has no native step.
    """
    lowering = Lowering(graph, layout, state, width, apart, loss, in_place)
    lowering.run()
    lowering.finish(reuse, turns)
    return lowering.program


def chained(graph: Graph) -> int:
    """How many linear layers over features, one after another with activations between them, end the graph.

    Nought for a single layer behind something else: a move in it reruns as little, and bit for bit.
    """
    layers, value, later = 0, graph.output, ""
    for node in reversed(graph.nodes):
        if node.output != value or len(graph.shapes[value]) != 1 or layers == MOST_CHAINED:
            break
        if node.op == "input":
            return layers
        fits = node.op in ("linear", "activation") and len(node.inputs) == 1 and len(graph.shapes[node.inputs[0]]) == 1
        if not fits or node.op == later == "activation":
            break
        layers += node.op == "linear"
        value, later = node.inputs[0], node.op
    return layers if layers > 1 else 0


@dataclass
class Lowering:
    """The state of one lowering. Rules (one a node, in `rules`) place values and add steps through it."""

    graph: Graph
    layout: MaskLayout
    state: Mapping[str, Tensor]
    width: int
    apart: int
    loss: bool
    in_place: bool = False

    def __post_init__(self) -> None:
        self.program = Program(self.width)
        self.values: dict[int, Placed] = {}
        self.constants = self.graph.constants(self.state)
        self.constant_of: dict[int, Tensor] = {}  # id of a constant's buffer -> its numbers
        self.users: dict[int, list[Node]] = {}
        for node in self.graph.nodes:
            for value in node.inputs:
                self.users.setdefault(value, []).append(node)
        self.orders: dict[int, tuple[int, ...] | None] = {}  # value -> what order_for_linear found
        self.done: set[int] = set()  # outputs of nodes that were melted into an earlier one
        nodes = self.graph.nodes
        positional = [i for i, node in enumerate(nodes) if self._has_positions(node)]
        self.last_narrow = positional[-1] if positional else -1
        self.narrow = self.last_narrow >= 0
        self.layer_index: dict[int, tuple[int, int]] = {}
        for node in nodes:
            if node.op in ("linear", "conv2d"):
                shape = self.state[node.tensors["weight"]].shape
                self.layer_index[node.output] = (len(self.layer_index), torch.Size(shape[2:]).numel())

    def _has_positions(self, node: Node) -> bool:
        if node.op in POSITIONAL:
            return True
        rank = len(self.graph.shapes[node.inputs[0]]) if node.inputs else 0
        return node.op in ("linear", "layer_norm", "mean", "softmax") and rank > 1

    def run(self) -> None:
        for index, node in enumerate(self.graph.nodes):
            self.narrow = index <= self.last_narrow
            if node.output in self.done:
                continue
            reason = refusal(self.graph, self.layout, node)
            if reason:
                raise CannotLower(reason)
            rules.RULES[node.op](self, node)
        self.narrow = False
        self._end()

    # ---- what rules use

    def source(self, value: int) -> Placed:
        """A value where the present steps can read it: a narrow one is widened once narrow steps are over."""
        placed = self.values[value]
        if self.narrow or not placed.narrow:
            return placed
        wide = self.allocate(placed.shape, order_of(placed))
        wide.buffer.first = 0  # narrow steps run before all wide ones
        self.add(Step("widen", True, wide, placed, name="widen"))
        self.values[value] = wide
        return wide

    def allocate(self, shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> Placed:
        size = torch.Size(shape).numel()
        buffer = Buffer(self.space, size, first=len(self.program.steps), last=len(self.program.steps))
        self.program.buffers.append(buffer)
        return contiguous(buffer, shape) if order is None else in_order(buffer, shape, order)

    def allocate_rows(self, shape: tuple[int, ...], order: tuple[int, ...], run: int) -> Placed:
        """Room for rows of what lies in the last `run` dimensions of `order`, apart from each other."""
        if not self.narrow:
            return self.allocate(shape, order)
        placed = in_order(Buffer("narrow", 0), shape, order, run)
        placed.buffer.size = 1 + sum((n - 1) * step for n, step in zip(shape, placed.strides, strict=True))
        placed.buffer.first = placed.buffer.last = len(self.program.steps)
        self.program.buffers.append(placed.buffer)
        return placed

    def allocate_like(self, value: int, like: Placed) -> Placed:
        """Room for a value: as the linear layers that read it want it, else in the order of what it is made from."""
        order = self.order_for_linear(value)
        if order is None:
            return self.allocate(like.shape, order_of(like))
        return self.allocate_rows(like.shape, order, len(order) - 1)

    def allocate_picture(self, value: int, shape: tuple[int, ...]) -> Placed:
        """Room for [C, H, W], with the border of zeros that the convolutions that read it need."""
        pad_y, pad_x = self.padding_of(value)
        if pad_y == pad_x == 0:
            return self.allocate(shape)
        C, H, W = shape
        now = len(self.program.steps)
        buffer = Buffer("narrow", C * (H + 2 * pad_y) * (W + 2 * pad_x), (C, H, W, pad_y, pad_x), now, now)
        self.program.buffers.append(buffer)
        return picture(buffer)

    def allocate_sum(self, node: Node, value: int, residual: Placed) -> Placed:
        """Room for the picture that a convolution makes: that of the picture it adds, where nobody reads it later."""
        out = self.allocate_picture(value, self.graph.shapes[value])
        if not self.in_place or residual.buffer.space != "narrow":
            return out
        old, new = residual.buffer, out.buffer
        if replace(residual, buffer=new) != out or (old.size, old.border) != (new.size, new.border):
            return out
        if any(self._is_read_after(node, held) for held, placed in self.values.items() if placed.buffer is old):
            return out
        self.program.buffers.remove(new)
        return residual

    def _is_read_after(self, node: Node, value: int) -> bool:
        now = self.graph.nodes.index(node)
        return value == self.graph.output or any(
            self.graph.nodes.index(user) > now and user.output not in self.done for user in self.users.get(value, []))

    def padding_of(self, value: int) -> tuple[int, int]:
        pads = [node.attributes["padding"] for node in self.users.get(value, []) if node.op in ("conv2d", "halo")]
        return max((p[0] for p in pads), default=0), max((p[1] for p in pads), default=0)

    @property
    def space(self) -> Space:
        return "narrow" if self.narrow else "wide"

    def add(self, step: Step) -> None:
        now = len(self.program.steps)
        for placed in (step.out, step.a, step.b):
            if placed is not None:
                placed.buffer.last = now
        self.program.steps.append(step)

    def only_user(self, value: int) -> Node | None:
        users = self.users.get(value, [])
        return users[0] if len(users) == 1 and value != self.graph.output else None

    def order_for_linear(self, value: int) -> tuple[int, ...] | None:
        """Features outermost, as a linear layer over positions reads them; None where none reads these numbers.

        Norms and sums on the way to it keep the order, so that nobody has to turn anything.
        """
        if value not in self.orders:
            shape = self.graph.shapes[value]
            reads = len(shape) > 1 and any(
                user.op == "linear" or (user.op in KEEPS_ORDER and self.graph.shapes[user.output] == shape
                                        and self.order_for_linear(user.output) is not None)
                for user in self.users.get(value, []))
            self.orders[value] = (len(shape) - 1, *range(len(shape) - 1)) if reads else None
        return self.orders[value]

    def take_activation(self, node: Node) -> tuple[tuple[str, tuple[float, ...]], int]:
        """The activation that alone reads the output of `node` and its output, or none and the node's own."""
        user = self.only_user(node.output)
        if user is None or user.op != "activation" or user.output in self.done or not self.same_side(user):
            return ("none", ()), node.output
        if node.output in self.layer_index and self.layer_index[node.output][0] >= len(self.layer_index) - self.apart:
            return ("none", ()), node.output
        if node.op not in ACTIVATING:
            return ("none", ()), node.output
        self.done.add(user.output)
        return (user.attributes["kind"], tuple(user.attributes["parameters"])), user.output

    def same_side(self, node: Node) -> bool:
        return (self.graph.nodes.index(node) <= self.last_narrow) == self.narrow

    def add_layer(self, node: Node, weight: Tensor, offsets: Tensor, positions: int) -> int:
        name = node.tensors["weight"]
        prunable = any(name == layer.name for layer in self.layout)
        first_word = self.layout[name].first_word if prunable else -1
        self.program.layers.append(LayerUse(name, weight, first_word, offsets, positions,
                                            readers(self.graph, node, self.layer_index)))
        return len(self.program.layers) - 1

    def add_input(self, value: int, index: int | str) -> None:
        """Inputs stand in their own space, turned beforehand and padded for the convolutions that read them."""
        shape = self.graph.shapes[value]
        pad = self.padding_of(value) if self.narrow and len(shape) == 3 else (0, 0)
        order = self.order_for_linear(value) if pad == (0, 0) else None
        padded = shape if pad == (0, 0) else (shape[0], shape[1] + 2 * pad[0], shape[2] + 2 * pad[1])
        buffer = Buffer("narrow_input" if self.narrow else "wide_input", torch.Size(padded).numel())
        if pad != (0, 0):
            buffer.border = (*shape, *pad)
        placed = contiguous(buffer, padded) if order is None else in_order(buffer, padded, order)
        self.program.inputs.append(InputUse(index, placed, pad))
        self.program.buffers.append(buffer)
        self.values[value] = placed if pad == (0, 0) else picture(buffer)

    def copy(self, placed: Placed, order: tuple[int, ...] | None = None) -> Placed:
        out = self.allocate(placed.shape, order)
        self.add(Step("activation", self.narrow, out, placed, name="copy"))
        return out

    # ---- the end

    def _end(self) -> None:
        out = self.source(self.graph.output)
        shape = out.shape
        rows = (shape[0] if shape else 1, torch.Size(shape[1:]).numel())
        flat = out.reshape(rows)
        if flat is None:
            flat = self.copy(out).reshape(rows)
        assert flat is not None
        self.program.output_shape = shape
        dense: Placed | None = None
        if self.loss:
            dense = contiguous(Buffer("wide_input", rows[0] * rows[1]), rows)
            self.program.buffers.append(dense.buffer)
            self.program.inputs.append(InputUse("dense", dense))
        self.add(Step("loss", False, flat, flat, dense, name="loss"))

    def finish(self, reuse: bool, turns: bool) -> None:
        """Decide what runs, and where in its space each buffer starts."""
        self.program.runs = in_turns(self.program) if turns else list(enumerate(self.program.steps))
        for space in ("narrow", "wide"):
            self.program.sizes[space] = assign([b for b in self.program.buffers if b.space == space], reuse)
        for space in ("narrow_input", "wide_input"):
            offset = 0
            for buffer in self.program.buffers:
                if buffer.space == space:
                    buffer.offset, offset = offset, offset + buffer.size
            self.program.sizes[space] = offset
