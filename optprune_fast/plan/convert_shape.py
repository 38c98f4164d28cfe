"""Operations that move numbers and change none; they also serve token indices."""

from __future__ import annotations

from typing import Any

from optprune_fast.plan.builder import Outputs
from optprune_fast.plan.call import Call, Converter, Splitter
from optprune_fast.plan.exported import CannotCapture


def alias(call: Call) -> int | None:
    return call.x


def dropout(call: Call) -> int | None:
    if call.given.get("train", False) and call["p"] > 0:
        raise CannotCapture("dropout stays on in eval mode: it draws random numbers")
    return call.x


def convert_dtype(call: Call) -> int | None:
    """Nothing, where dtype and device stay."""
    before, after = call.source.meta["val"], call.node.meta["val"]
    return call.x if (before.dtype, before.device) == (after.dtype, after.device) else None


def reshape(call: Call) -> int | None:
    x = call.x
    return None if x is None else call.build.reshape(x, call.shape)


def expand(call: Call) -> int | None:
    x = call.x
    return x if x is not None and call.build.shapes[x] == call.shape else None


def permute(call: Call) -> int | None:
    x = call.x
    return None if x is None else _permuted(call, x, [dim % call.rank for dim in call["dims"]])


def transpose(call: Call) -> int | None:
    x, dims = call.x, list(range(call.rank))
    first, second = (call[a if a in call.given else b] % call.rank for a, b in (("dim0", "axis0"), ("dim1", "axis1")))
    dims[first], dims[second] = dims[second], dims[first]
    return None if x is None else _permuted(call, x, dims)


def turn(call: Call) -> int | None:
    """The last two dimensions swapped: `t`, `mT`; or all of them: `T`."""
    x, dims = call.x, list(range(call.rank))
    dims = [*dims[:-2], *dims[-2:][::-1]] if call.name != "numpy_T" else dims[::-1]
    return None if x is None else _permuted(call, x, dims)


def movedim(call: Call) -> int | None:
    x = call.x
    source, destination = ([d % call.rank for d in ([v] if isinstance(v, int) else v)]
                           for v in (call["source"], call["destination"]))
    places: dict[int, int] = dict(zip(destination, source, strict=True))
    rest = iter(d for d in range(call.rank) if d not in source)
    return None if x is None else _permuted(call, x, [places[d] if d in places else next(rest)
                                                      for d in range(call.rank)])


def _permuted(call: Call, x: int, dims: list[int]) -> int:
    return call.build.permute(x, tuple(dim - 1 for dim in dims[1:]))


def slice_(call: Call) -> int | None:
    x, dim = call.x, call["dim"] % call.rank
    start, end, step = call["start"] or 0, call["end"], call["step"]
    if x is None or not all(isinstance(v, int) or v is None for v in (start, end, step)):
        return None
    if dim == 0:  # as many samples as before: all of them
        return x
    size = call.build.shapes[x][dim - 1]
    start, end, step = slice(start, end, step).indices(size)
    return call.build.slice(x, dim - 1, start, len(range(start, end, step)), step)


def select(call: Call) -> int | None:
    x = call.x
    if x is None or not isinstance(call["index"], int):
        return None
    dim = call.dim(call["dim"])
    return call.build.reshape(call.build.slice(x, dim, call["index"] % call.build.shapes[x][dim], 1), call.shape)


def narrow(call: Call) -> int | None:
    x = call.x
    if x is None or not isinstance(call["start"], int):
        return None
    dim = call.dim(call["dim"])
    return call.build.slice(x, dim, call["start"] % call.build.shapes[x][dim], call["length"])


def concat(call: Call) -> int | None:
    parts = [call.build.value(part) for part in call.source]
    rank = call.node.meta["val"].dim()
    dim = call.dim(call["dim"], rank)
    if call.name == "stack":
        parts = [None if p is None else call.build.reshape(p, (*(s := call.build.shapes[p])[:dim], 1, *s[dim:]))
                 for p in parts]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or any(len(call.build.shapes[part]) != rank - 1 for part in known):
        return None
    return call.build.emit("concat", tuple(known), call.shape, dim=dim)


def split(call: Call) -> Outputs | None:
    """chunk, split, unbind: slices, of which only those that are read appear."""
    x = call.x
    if x is None:
        return None
    dim, build = call.dim(call["dim"]), call.build
    outputs: Any = call.node.meta["val"]
    lengths = [1 if call.name == "unbind" else int(part.shape[dim + 1]) for part in outputs]

    def output(index: int) -> int:
        assert x is not None
        value = build.slice(x, dim, sum(lengths[:index]), lengths[index])
        return build.reshape(value, tuple(outputs[index].shape[1:]))

    return output


SHAPES: dict[str, Converter] = {
    **dict.fromkeys(("clone", "contiguous", "detach", "alias", "lift_fresh_copy", "lift_fresh"), alias),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"), dropout),
    **dict.fromkeys(("to", "_to_copy", "type_as"), convert_dtype),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view", "view_as",
                     "reshape_as"), reshape),
    "expand": expand, "expand_as": expand, "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), transpose),
    **dict.fromkeys(("t", "mT", "numpy_T"), turn), "movedim": movedim, "moveaxis": movedim,
    "slice": slice_, "select": select, "narrow": narrow,
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), concat),
}
SPLITS: dict[str, Splitter] = dict.fromkeys(("chunk", "split", "split_with_sizes", "unbind"), split)
