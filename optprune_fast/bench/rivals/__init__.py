"""The rivals, a file each. What they build from the masks is inside the timed call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from optprune_fast.bench.rival import Rival
from optprune_fast.bench.rivals import compiled, evotorch, evox, loop, ours, sparse_csr, vmap
from optprune_fast.runtime.errors import message

TORCH = (
    Rival("loop", loop.prepare),
    Rival("vmap", vmap.prepare),
    Rival("vmap, chunks", vmap.prepare_chunked),
    Rival("sparse CSR", sparse_csr.prepare, declines=sparse_csr.declines),
    Rival("like EvoTorch", evotorch.prepare),
    Rival("like EvoX", evox.prepare),
    Rival("compiled loop", compiled.prepare_loop, slow_start=True),
    Rival("compiled loop, channels last", partial(compiled.prepare_loop, channels_last=True),
          declines=compiled.declines_channels_last, slow_start=True),
    Rival("compiled vmap", compiled.prepare_vmap, slow_start=True),
)

OURS = {backend: Rival(f"ours, {backend}", partial(ours.prepare, backend=backend), ours=True)
        for backend in ("auto", "native", "numba", "torch")}


def chosen(backends: Sequence[str] = ("native",), *, compiled: bool = False, without: Sequence[str] = ()
           ) -> list[Rival]:
    """Ours on these backends, and the torch rivals; those that compile only if asked for.

    >>> [rival.name for rival in chosen(without=["sparse CSR", "like EvoX", "vmap"])]
    ['ours, native', 'loop', 'vmap, chunks', 'like EvoTorch']
    """
    names = [rival.name for rival in TORCH]
    unknown = [name for name in without if name not in names]
    if unknown or not set(backends) <= set(OURS):
        raise ValueError(message("bench", "no such rival or backend", f"rivals: {'; '.join(names)}; backends: "
                                 f"{', '.join(OURS)}", rivals=unknown, backends=list(backends)))
    return [OURS[backend] for backend in backends] + [
        rival for rival in TORCH if rival.name not in without and (compiled or not rival.slow_start)]
