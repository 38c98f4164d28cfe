"""compile_network: a network with sparse layers that runs whole, its weights compressed all the time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from optprune_fast.deploy.held import HeldWeight, hold
from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.replica import put, replica
from optprune_fast.deploy.report import ATTRIBUTE, Deployment
from optprune_fast.deploy.runner import Runner
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import CannotCapture, capture
from optprune_fast.plan.bands import in_bands
from optprune_fast.plan.graph import Graph
from optprune_fast.plan.indices import check_indices
from optprune_fast.plan.lower import lower
from optprune_fast.plan.model import state_of
from optprune_fast.plan.refusal import CannotLower
from optprune_fast.runtime import native
from optprune_fast.runtime.errors import BackendError, message

MOST_WIDTH = 8  # registers of samples in a tile


def compile_network(net: nn.Module, *example: Tensor) -> CompiledNetwork:
    """The same network for inference on the CPU, run as a whole: batch normalisation folded into the weights,
    activations and sums melted into the layers before them, a tile of samples taken through all layers while the caches
    hold it, and zeros skipped.

    net:      what `opf.load` or `opf.convert` returned, or any model with zeros in its weights; float32. It is not
              changed, and need not be kept
    example:  what the model is called with: float32 (or indices) [B, ...] each, any B >= 1, on the CPU

    The result holds the kept weights alone, compressed, and beside them what its threads work in; layers that keep
    three weights in four or more are held dense. While it is made, the dense weights exist. Outputs are bit for bit
    those of `Evaluator.outputs` for the mask, whatever the batch size, threads and instruction set. Small batches of
    pictures fill registers with rows of one picture. A network of linear layers is faster layer by layer.
    `optprune_fast.deploy.report.explain(result)` shows how each layer is held.

    Raises `ValueError` with the reason where the network cannot be captured or has a step without a kernel, and
    `BackendError` without compiled kernels: then run the network itself.

    >>> import optprune_fast as opf
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)).eval()
    >>> net = opf.convert(model, opf.magnitude(model, sparsity=0.9).mask, prefer="memory")
    >>> compile_network(net, torch.zeros(1, 3, 8, 8))(torch.randn(5, 3, 8, 8)).shape
    torch.Size([5, 10])
    """
    reason = native.missing("network")
    if reason is not None:
        raise BackendError(message("compile_network", reason, "the network itself runs without them"))
    if not example or not all(isinstance(x, Tensor) and x.dim() and len(x) and x.device.type == "cpu" for x in example):
        raise ValueError(message("compile_network", "the example must be what the network is called with: tensors "
                                 "[B, ...] on the CPU with at least one sample", example=example))
    dense = _dense(net)
    state = state_of(dense)
    wrong = [name for name, tensor in state.items() if tensor.is_floating_point() and tensor.dtype != torch.float32]
    if wrong:
        raise ValueError(message("compile_network", "the plan runs in float32", "net.float() is such a network",
                                 **{wrong[0]: state[wrong[0]]}))
    layout = MaskLayout.of(dense)
    try:
        graph = capture(dense, example, {}, layout)
        del dense
        return CompiledNetwork(graph, layout, state)
    except (CannotCapture, CannotLower) as refused:
        raise ValueError(message("compile_network", f"the network cannot run whole: {refused}",
                                 "run the network itself")) from refused


class CompiledNetwork(nn.Module):
    """What `compile_network` returns. For inference: in training mode, or for an input that requires a gradient, it
    raises `ValueError`, as it does for samples of another shape than the example's."""

    def __init__(self, graph: Graph, layout: MaskLayout, state: dict[str, Tensor]) -> None:
        super().__init__()
        self._graph, self._layout = graph, layout
        self._inputs: dict[int, int] = {n.attributes["index"]: n.output for n in graph.nodes if n.op == "input"}
        nodes = [node for node in graph.nodes if node.op in ("linear", "conv2d")]
        self._state = _hollow(graph, state)
        plain = lower(graph, layout, self._state, 1, loss=False)
        self._weights: list[HeldWeight] = hold(nodes, state, [layer.consumers for layer in plain.layers])
        self._runners: dict[tuple[int, int], Runner] = {}
        self._banded: dict[int, Graph | None] = {1: graph}
        setattr(self, ATTRIBUTE, Deployment("memory", tuple(weight.row for weight in self._weights)))
        self.eval()

    @property
    def nbytes(self) -> int:
        """Bytes of all weights of layers, as they are held."""
        return sum(weight.nbytes for weight in self._weights)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *args: Tensor) -> Tensor:
        self._check(args)
        inputs: dict[int | str, Tensor] = {index: args[index] for index in self._inputs}
        if self._graph.integers:
            check_indices(self._graph, self._state, inputs)
        samples, isa = len(args[0]), native.isa()
        parts = [self._runner(width, bands)({key: x[first:last] for key, x in inputs.items()}, last - first, isa)
                 for first, last, width, bands in self._pieces(samples, native.module().population_lanes(isa))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _pieces(self, samples: int, lanes: int) -> Iterator[tuple[int, int, int, int]]:
        """(first, behind the last, registers of a tile, bands of a sample): whole registers of samples, then what is
        left in bands, so that no lane is idle."""
        rest = samples % lanes
        bands = lanes >> (rest - 1).bit_length() if rest else 1
        if self._bands(bands) is None:
            bands = 1
        whole = samples if bands == 1 else samples - rest
        if whole or not samples:
            registers = max(1, -(-whole // lanes))
            yield 0, whole, min(MOST_WIDTH, 1 << (registers - 1).bit_length()), 1
        if bands > 1:
            yield whole, samples, 1, bands

    def _bands(self, bands: int) -> Graph | None:
        if bands not in self._banded:
            self._banded[bands] = in_bands(self._graph, bands)
        return self._banded[bands]

    def _runner(self, width: int, bands: int) -> Runner:
        if (width, bands) not in self._runners:
            graph = self._bands(bands)
            assert graph is not None
            program = lower(graph, self._layout, self._state, width, loss=False, in_place=True)
            self._runners[width, bands] = Runner(program, self._weights, bands, self._height())
        return self._runners[width, bands]

    def _height(self) -> int | None:
        """Of the pictures that the first input holds; None where it holds something else."""
        value = next(iter(self._inputs.values()))
        shape = self._graph.shapes[value]
        return None if value in self._graph.integers or len(shape) != 3 else shape[1]

    def _check(self, args: tuple[Tensor, ...]) -> None:
        if self.training:
            raise ValueError(message("CompiledNetwork", "it runs in eval mode only", "net.eval(); train the network it "
                                     "was made from"))
        if any(x.requires_grad for x in args) and torch.is_grad_enabled():
            raise ValueError(message("CompiledNetwork", "it has no gradients", "call it under torch.no_grad(), or use "
                                     "the network that it was made from"))
        for index, value in self._inputs.items():
            x: Any = args[index] if index < len(args) else None
            whole = value in self._graph.integers
            fits = isinstance(x, Tensor) and x.device.type == "cpu" and tuple(x.shape[1:]) == self._graph.shapes[value]
            if not fits or len(x) != len(args[0]) or x.is_floating_point() == whole or (not whole
                                                                                       and x.dtype != torch.float32):
                kind = "indices" if whole else "float32"
                raise ValueError(message("CompiledNetwork", f"argument {index} must be {kind} "
                                         f"[B, {', '.join(map(str, self._graph.shapes[value]))}] on the CPU, as in the "
                                         "example", "compile_network(net, example) with such an input", given=x))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runners": {}}  # made again from the copies

    def extra_repr(self) -> str:
        return f"{len(self._weights)} layers, {self.nbytes} bytes"


def _dense(net: nn.Module) -> nn.Module:
    """A copy in which every sparse layer is torch's own."""
    out = replica(net)
    for layer in [module for module in out.modules() if isinstance(module, SparseLayer)]:
        out = put(out, layer, layer.to_dense())
    return out


def _hollow(graph: Graph, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state, weights of layers without memory: programs need their shapes alone."""
    layers = {node.tensors["weight"] for node in graph.nodes if node.op in ("linear", "conv2d")}
    others = {name for node in graph.nodes for role, name in node.tensors.items()
              if role != "weight" or node.op not in ("linear", "conv2d")}
    for node in graph.nodes:
        if node.op == "constant":
            others |= node.attributes["compute"].names
    return {name: torch.zeros(1).expand(tensor.shape) if name in layers - others else tensor
            for name, tensor in state.items()}
