"""What a graph is lowered to: steps over tensors in tiles of samples, ready for a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from optprune_fast.plan.placed import Buffer, Placed

# Order and names are those of csrc/kernels/population/population.h.
OPS = ("linear", "conv2d", "activation", "add", "sub", "mul", "scale", "max_pool", "avg_pool", "mean", "softmax",
       "log_softmax", "layer_norm", "matmul", "embedding", "widen", "loss", "halo", "regroup", "spread")
ACTIVATIONS = ("none", "relu", "relu6", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh",
               "hardswish", "hardsigmoid", "hardtanh")
CUTTING_OFF = ("relu", "relu6", "hardtanh")  # a convolution applies these as it stores
SPACES = ("narrow_input", "wide_input", "narrow", "wide", "constant")


@dataclass
class Step:
    """One step of a program.

    narrow:      runs once for each register of a wide tile
    layer:       index into `Program.layers`, or -1
    activation:  (name, parameters), applied to what the step writes
    bias, extra: float32 tensors whose meaning depends on the step
    numbers:     sizes that the kernel of the step needs
    """

    op: str
    narrow: bool
    out: Placed
    a: Placed
    b: Placed | None = None
    layer: int = -1
    activation: tuple[str, tuple[float, ...]] = ("none", ())
    bias: Tensor | None = None
    extra: Tensor | None = None
    numbers: tuple[int, ...] = ()
    name: str = ""


Run = tuple[int, Step]  # a step or a part of it, and the index of the step


@dataclass
class LayerUse:
    """One use of a weight: its rows, and what each column is multiplied with.

    name:       the layer of the mask layout, or of an unpruned weight
    weight:     float32 [rows, columns], batch normalisation folded in
    first_word: in a mask; -1 where the weight is not pruned
    offsets:    int64 [columns], registers from an output's base to what the column multiplies
    consumers:  (index of a later layer, its columns per row of this one); empty: every row is read
    positions:  outputs of one row for one sample
    """

    name: str
    weight: Tensor
    first_word: int
    offsets: Tensor
    positions: int
    consumers: tuple[tuple[int, int], ...] = ()


@dataclass
class InputUse:
    """One input of the model as a tile has it: `padding` zeros around a picture, narrow or wide."""

    index: int | str
    placed: Placed
    padding: tuple[int, int] = (0, 0)


@dataclass
class Program:
    """Steps and layers of one network, for wide tiles of `width` registers of samples.

    runs: what a kernel runs: the steps, or parts of some
    """

    width: int
    steps: list[Step] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    layers: list[LayerUse] = field(default_factory=list)
    inputs: list[InputUse] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    output_shape: tuple[int, ...] = ()
