"""Pooling; of one dimension as pictures of one row."""

from __future__ import annotations

from optprune_fast.plan.builder import Outputs
from optprune_fast.plan.call import Call, Converter, Pair, Splitter, pair


def pool(call: Call) -> int | None:
    one, op = call.name.endswith("1d"), call.name[:-2]
    kernel = pair(call["kernel_size"], one, 1)
    stride = pair(call["stride"], one, 1) if call["stride"] else kernel
    padding = pair(call["padding"], one, 0)
    if pair(call.given.get("dilation", 1), one, 1) != (1, 1) or call.given.get("divisor_override") is not None:
        return None
    return _emit(call, op, one, kernel, stride, padding, bool(call.given.get("count_include_pad", True)))


def adaptive(call: Call) -> int | None:
    """Where the input divides evenly, every output has the same kernel."""
    one = call.name.endswith("1d")
    x = call.x
    if x is None:
        return None
    sizes = call.build.shapes[x][1:]
    wanted = call.shape[1:]
    if any(not w or size % w for size, w in zip(sizes, wanted, strict=True)):
        return None
    kernel = pair([size // w for size, w in zip(sizes, wanted, strict=True)], one, 1)
    return _emit(call, "max_pool" if "max" in call.name else "avg_pool", one, kernel, kernel, (0, 0), True)


def adaptive_max(call: Call) -> Outputs | None:
    """Its first output; nobody but torch knows where the largest value was."""
    node = call.node
    if any(user.args[1] != 0 for user in node.users):
        return None
    value = adaptive(call)
    return None if value is None else lambda _: value


def _emit(call: Call, op: str, one: bool, kernel: Pair, stride: Pair, padding: Pair, include: bool) -> int | None:
    x, build = call.x, call.build
    if x is None or call.rank != (3 if one else 4):
        return None
    if one:
        channels, length = build.shapes[x]
        x = build.reshape(x, (channels, 1, length))
    _, height, width = build.shapes[x]
    size = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip((height, width), padding, kernel, stride, strict=True))
    shape = call.shape
    if size != ((1, shape[1]) if one else shape[1:]):  # ceil_mode, where it matters
        return None
    value = build.emit(op, (x,), (shape[0], *size), kernel=kernel, stride=stride, padding=padding,
                       count_include_pad=include)
    return build.reshape(value, shape)


POOLS: dict[str, Converter] = {
    **dict.fromkeys(("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"), pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), adaptive),
}
POOL_OUTPUTS: dict[str, Splitter] = dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), adaptive_max)
