"""Memory of a tile: values that are never alive together share it."""

from __future__ import annotations

from collections.abc import Iterable

from optprune_fast.plan.placed import Buffer


def assign(buffers: Iterable[Buffer], reuse: bool = True) -> int:
    """Give each buffer of one space its offset; returns the registers needed.

    First fit in the order of first use. A picture with a border shares memory with pictures of the same kind only:
    the border is zeroed once and never written. Without `reuse` every value keeps its own memory.

    >>> a, b, c = Buffer("wide", 8, first=0, last=1), Buffer("wide", 8, first=1, last=2), Buffer("wide", 8, None, 2, 3)
    >>> assign([a, b, c]), a.offset, b.offset, c.offset
    (16, 0, 8, 0)
    """
    placed: list[Buffer] = []
    top = 0
    for buffer in sorted(buffers, key=lambda b: b.first):
        # What overlaps in time is in the way; so is any memory of another kind of border.
        blocked = sorted((other.offset, other.offset + other.size) for other in placed
                         if not reuse or other.last >= buffer.first or other.border != buffer.border
                         or (buffer.border is not None and other.size != buffer.size))
        start = 0
        for low, high in blocked:
            if start + buffer.size <= low:
                break
            start = max(start, high)
        if buffer.border is not None and reuse:
            free = [o.offset for o in placed if o.border == buffer.border
                    and not any(low < o.offset + o.size and o.offset < high for low, high in blocked)]
            start = free[0] if free else max([start, *(high for _, high in blocked)])
        buffer.offset = start
        placed.append(buffer)
        top = max(top, start + buffer.size)
    return top
