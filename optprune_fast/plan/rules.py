"""How each node of a graph becomes steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from optprune_fast.plan.fold import folded, norm_scale_shift
from optprune_fast.plan.graph import Node
from optprune_fast.plan.placed import Buffer, Placed, contiguous, order_of, picture
from optprune_fast.plan.program import CUTTING_OFF, Step

if TYPE_CHECKING:
    from optprune_fast.plan.lower import Lowering


def input_(low: Lowering, node: Node) -> None:
    low.add_input(node.output, node.attributes["index"])


def constant(low: Lowering, node: Node) -> None:
    numbers = low.constants[node.output].to(torch.float32).contiguous()
    buffer = Buffer("constant", numbers.numel())
    low.constant_of[id(buffer)] = numbers
    low.values[node.output] = contiguous(buffer, tuple(numbers.shape))


def linear(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    dims = len(x.shape) - 1
    # [I, positions]: features outermost, positions side by side
    turned = x.permute((dims, *range(dims)))
    flat = turned.reshape((turned.shape[0], torch.Size(turned.shape[1:]).numel()))
    if flat is None or (flat.shape[1] > 1 and flat.strides[1] != 1):
        copied = low.copy(x, (dims, *range(dims)))
        if x is low.values[node.inputs[0]]:  # others may read it in this order too
            low.values[node.inputs[0]] = copied
        turned = copied.permute((dims, *range(dims)))
        flat = turned.reshape((turned.shape[0], torch.Size(turned.shape[1:]).numel()))
        assert flat is not None
    positions = flat.shape[1]
    weight, bias = folded(node, low.state)
    columns = torch.arange(weight.shape[1])
    registers = positions * (1 if low.narrow else low.width)
    step = (flat.strides[0] * (1 if low.narrow else low.width)) if registers <= 8 else 8
    layer = low.add_layer(node, weight, columns * step, positions)
    activation, output = low.take_activation(node)
    out = low.allocate_rows((weight.shape[0], positions), (0, 1), 1)
    low.add(Step("linear", low.narrow, out, flat, layer=layer, activation=activation, bias=bias,
                 name=node.tensors["weight"]))
    shaped = out.reshape((weight.shape[0], *x.shape[:-1]))
    assert shaped is not None
    low.values[output] = shaped.permute((*range(1, dims + 1), 0))


def conv2d(low: Lowering, node: Node) -> None:
    x = _with_border(low, node)
    weight, bias = folded(node, low.state)
    at = node.attributes
    shape = low.state[node.tensors["weight"]].shape
    kernel = (1, shape[2]) if len(shape) == 3 else tuple(shape[2:])
    c, y, z = torch.meshgrid(torch.arange(shape[1]), torch.arange(kernel[0]), torch.arange(kernel[1]), indexing="ij")
    offsets = (c * x.strides[0] + (y * at["dilation"][0] - at["padding"][0]) * x.strides[1] +
               (z * at["dilation"][1] - at["padding"][1]) * x.strides[2]).flatten()
    size = low.graph.shapes[node.output]
    layer = low.add_layer(node, weight, offsets, size[1] * size[2])
    residual, output = _residual(low, node)
    user = low.only_user(output)
    activation: tuple[str, tuple[float, ...]] = ("none", ())
    if user is not None and user.op == "activation" and user.attributes["kind"] in CUTTING_OFF:
        low.done.add(user.output)
        activation, output = (user.attributes["kind"], tuple(user.attributes["parameters"])), user.output
    user = low.only_user(output)
    pools = (user is not None and user.op == "max_pool" and user.attributes["kernel"] == (2, 2) ==
             user.attributes["stride"] and user.attributes["padding"] == (0, 0))
    if pools and user is not None:
        low.done.add(user.output)
        output = user.output
    if residual is not None and not pools and residual.buffer is not x.buffer:
        out = low.allocate_sum(node, output, residual)
    else:
        out = low.allocate_picture(output, low.graph.shapes[output])
    numbers = (*at["stride"], at["groups"], size[1], size[2], kernel[1], int(pools), int(residual is not None))
    low.add(Step("conv2d", True, out, x, residual, layer, activation, bias, numbers=numbers,
                 name=node.tensors["weight"]))
    low.values[output] = out


def _with_border(low: Lowering, node: Node) -> Placed:
    """The input of a convolution, side by side in x and with a border of zeros where it needs one."""
    x = low.source(node.inputs[0])
    pad_y, pad_x = node.attributes["padding"]
    # A slice or a permutation of a picture has other numbers around it, not its border.
    has = (0, 0) if x.buffer.border is None or x != picture(x.buffer) else x.buffer.border[3:]
    bordered = has[0] >= pad_y and has[1] >= pad_x
    if bordered and x.buffer.space != "constant" and (x.strides[2] == 1 or x.shape[2] == 1):
        return x
    out = low.allocate_picture(node.inputs[0], x.shape)
    low.add(Step("activation", True, out, x, name="copy"))
    return out


def halo(low: Lowering, node: Node) -> None:
    x, at = _with_border(low, node), node.attributes
    assert x.buffer.border is not None
    x.buffer.border = (*x.buffer.border[:5], at["bands"])
    numbers = (at["bands"], at["height"], at["above"], at["below"], int(at["outside"] != 0))
    low.add(Step("halo", True, x, x, numbers=numbers, name="halo"))
    low.values[node.output] = x


def regroup(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    out = low.allocate_picture(node.output, low.graph.shapes[node.output])
    at = node.attributes
    low.add(Step("regroup", True, out, x, numbers=(at["bands"], at["into"], at["height"]), name="regroup"))
    low.values[node.output] = out


def spread(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    out = low.allocate_picture(node.output, low.graph.shapes[node.output])
    low.add(Step("spread", True, out, x, numbers=(node.attributes["bands"],), name="spread"))
    low.values[node.output] = out


def _residual(low: Lowering, node: Node) -> tuple[Placed | None, int]:
    """The other side of a sum that alone reads this convolution, if it is there by now."""
    user = low.only_user(node.output)
    if user is None or user.op != "add" or user.inputs[0] == user.inputs[1]:
        return None, node.output
    other = user.inputs[1] if user.inputs[0] == node.output else user.inputs[0]
    placed = low.values.get(other)
    if (placed is None or placed.shape != low.graph.shapes[node.output] or placed.buffer.space == "constant"
            or (placed.strides[2] != 1 and placed.shape[2] != 1)):
        return None, node.output
    low.done.add(user.output)
    return placed, user.output


def activation(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    kind = (node.attributes["kind"], tuple(node.attributes["parameters"]))
    _elementwise(low, "activation", x, None, node.output, kind)


def binary(low: Lowering, node: Node) -> None:
    a, b = (low.source(value) for value in node.inputs)
    shape = low.graph.shapes[node.output]
    kind, output = low.take_activation(node)
    _elementwise(low, node.op, a.expand(shape), b.expand(shape), output, kind)


def scale(low: Lowering, node: Node) -> None:
    kind, output = low.take_activation(node)
    _elementwise(low, "scale", low.source(node.inputs[0]), None, output, kind, _factor_and_shift(node))


def _factor_and_shift(node: Node) -> Tensor:
    return torch.tensor([node.attributes["factor"], node.attributes["shift"]], dtype=torch.float32)


def affine(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    factor, shift = (t.to(torch.float32).contiguous() for t in norm_scale_shift(node, low.state))
    for op, numbers in (("mul", factor), ("add", shift)):
        buffer = Buffer("constant", numbers.numel())
        low.constant_of[id(buffer)] = numbers
        rows = contiguous(buffer, (numbers.numel(), *(1 for _ in x.shape[1:])))
        _elementwise(low, op, x, rows.expand(x.shape), node.output, ("none", ()))
        x = low.values[node.output]


def _elementwise(low: Lowering, op: str, a: Placed, b: Placed | None, output: int,
                 kind: tuple[str, tuple[float, ...]], numbers: Tensor | None = None) -> None:
    like = a if a.buffer.space != "constant" or b is None else b
    if len(a.shape) == 3 and low.padding_of(output) != (0, 0):
        out = low.allocate_picture(output, a.shape)
    else:
        out = low.allocate_like(output, like)
    order = order_of(out)
    bias, extra = (None if p is None or p.buffer.space != "constant" else low.constant_of[id(p.buffer)]
                   for p in (a, b))
    # The innermost loop runs over the dimension that lies innermost in memory.
    pieces = (p if p is None else p.permute(order) for p in (out, a, b))
    step_out, step_a, step_b = pieces
    assert step_out is not None
    assert step_a is not None
    low.add(Step(op, low.narrow, step_out, step_a, step_b, activation=kind, bias=bias,
                 extra=extra if numbers is None else numbers, name=op))
    low.values[output] = out


def pool(low: Lowering, node: Node) -> None:
    x, at = low.source(node.inputs[0]), node.attributes
    kind, output = low.take_activation(node)
    out = low.allocate_picture(output, low.graph.shapes[node.output])
    numbers = (*at["kernel"], *at["stride"], *at["padding"], int(at.get("count_include_pad", True)),
               int(at.get("in_bands", False)))
    low.add(Step(node.op, True, out, x, activation=kind, numbers=numbers, name=node.op))
    low.values[output] = out


def mean(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    dims = tuple(sorted(d % len(x.shape) for d in node.attributes["dims"]))
    kept = tuple(d for d in range(len(x.shape)) if d not in dims)
    kind, output = low.take_activation(node)
    out = low.allocate(tuple(x.shape[d] for d in kept))
    low.add(Step("mean", low.narrow, out, x.permute((*kept, *dims)), activation=kind, numbers=(len(dims),),
                 name="mean"))
    shaped = out.reshape(low.graph.shapes[node.output])
    assert shaped is not None
    low.values[output] = shaped


def softmax(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    dim = node.attributes["dim"] % len(x.shape)
    order = (*(d for d in range(len(x.shape)) if d != dim), dim)
    out = low.allocate_like(node.output, x)
    low.add(Step("log_softmax" if node.attributes["log"] else "softmax", low.narrow, out.permute(order),
                 x.permute(order), name="softmax"))
    low.values[node.output] = out


def layer_norm(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    out = low.allocate_like(node.output, x)
    weight, bias = (low.state[node.tensors[role]].float().contiguous() if role in node.tensors else None
                    for role in ("weight", "bias"))
    low.add(Step("layer_norm", low.narrow, out, x, activation=("none", (node.attributes["eps"],)), bias=weight,
                 extra=bias, numbers=(node.attributes["dims"],), name="layer_norm"))
    low.values[node.output] = out


def matmul(low: Lowering, node: Node) -> None:
    a, b = (low.source(value) for value in node.inputs)
    shape = low.graph.shapes[node.output]
    dims = len(shape)
    user, output, numbers = low.only_user(node.output), node.output, None
    if user is not None and user.op == "scale" and low.same_side(user):
        low.done.add(user.output)
        output, numbers = user.output, _factor_and_shift(user)
    # Columns outermost where a linear layer reads them as its features.
    order = (*range(dims - 2), *((dims - 1, dims - 2) if _feeds_linear(low, output) else (dims - 2, dims - 1)))
    out = low.allocate_rows(shape, order, 1)
    low.add(Step("matmul", True, out, a.expand((*shape[:-2], *a.shape[-2:])), b.expand((*shape[:-2], *b.shape[-2:])),
                 extra=numbers, name="matmul"))
    low.values[output] = out


def _feeds_linear(low: Lowering, value: int) -> bool:
    user = low.only_user(value)
    while user is not None and user.op in ("permute", "reshape"):
        user = low.only_user(user.output)
    return user is not None and user.op == "linear"


def embedding(low: Lowering, node: Node) -> None:
    x = low.source(node.inputs[0])
    table = low.state[node.tensors["weight"]].float().contiguous()
    out = low.allocate((table.shape[1], *x.shape))
    low.add(Step("embedding", True, out, x, bias=table, name=node.tensors["weight"]))
    low.values[node.output] = out.permute((*range(1, len(x.shape) + 1), 0))


def concat(low: Lowering, node: Node) -> None:
    parts = [low.source(value) for value in node.inputs]
    dim = node.attributes["dim"] % len(parts[0].shape)
    shape = low.graph.shapes[node.output]
    out = (low.allocate_picture(node.output, shape) if len(shape) == 3 and low.narrow
           else low.allocate(shape, order_of(parts[0])))
    start = 0
    for part in parts:
        length = part.shape[dim]
        order = order_of(part)
        bias = low.constant_of[id(part.buffer)] if part.buffer.space == "constant" else None
        low.add(Step("activation", low.narrow, out.slice(dim, start, length, 1).permute(order), part.permute(order),
                     bias=bias, name="concat"))
        start += length
    low.values[node.output] = out


def reshape(low: Lowering, node: Node) -> None:
    x = low.values[node.inputs[0]]
    shape = low.graph.shapes[node.output]
    view = x.reshape(shape)
    if view is None:
        view = low.copy(low.source(node.inputs[0])).reshape(shape)
    assert view is not None
    low.values[node.output] = view


def permute(low: Lowering, node: Node) -> None:
    low.values[node.output] = low.values[node.inputs[0]].permute(tuple(node.attributes["dims"]))


def slice_(low: Lowering, node: Node) -> None:
    at = node.attributes
    x = low.values[node.inputs[0]]
    low.values[node.output] = x.slice(at["dim"] % len(x.shape), at["start"], at["length"], at["step"])


Rule = Callable[["Lowering", Node], None]
RULES: dict[str, Rule] = {
    "input": input_, "constant": constant, "linear": linear, "conv2d": conv2d, "activation": activation,
    "add": binary, "sub": binary, "mul": binary, "scale": scale, "affine": affine, "max_pool": pool, "avg_pool": pool,
    "mean": mean, "softmax": softmax, "layer_norm": layer_norm, "matmul": matmul, "embedding": embedding,
    "concat": concat, "reshape": reshape, "permute": permute, "slice": slice_, "halo": halo, "regroup": regroup,
    "spread": spread,
}
