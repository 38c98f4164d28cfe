"""A generation of a small network as one CUDA graph: what is launched is said once, and then again in one word.

    first call      eagerly, and Triton compiles
    second call     captured: words are read from one place, sums are written to one place
    from then on    words in, replay, sums out

Where a generation cannot be captured, or memory runs out, graphs are let go, and all is launched step by step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor

Work = Callable[[Tensor], Tensor]  # words [P, W] -> sums [P]
# Makes a function that does again what `work` did, and returns it with what `work` gave: its memory is written anew.
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
Given = ParamSpec("Given")
T = TypeVar("T")

STEP = 32  # candidates: a generation without its duplicates takes the graph of those with a few more
MOST_GRAPHS = 4  # over the same inputs


def room_for(candidates: int) -> int:
    """Candidates of the graph that serves so many.

    >>> room_for(32), room_for(33)
    (32, 64)
    """
    return -(-candidates // STEP) * STEP


class CudaGraphs:
    """Captures on one device, one after the other into the same memory: what a graph needs while it runs alone, the
    next one writes over."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._alive: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with torch.cuda.device(self.device):  # a graph holds what the current device is given, which may be another one
            if not self._alive:  # the last graph takes the memory with it
                self._memory, self._side = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
            side, current = self._side, torch.cuda.current_stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):  # once more, since libraries set themselves up in a first call: no launch
                work()
            current.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # A capture that fails leaves its stream the current one, which the outer `with` puts right. Other threads
            # may go on meanwhile: one that pins the samples of a loader must not end it.
            with torch.cuda.stream(side), torch.cuda.graph(graph, pool=self._memory, stream=side,
                                                           capture_error_mode="thread_local"):
                out = work()
        self._alive.add(graph)
        return graph.replay, out


def capture_for(device: torch.device) -> Capture | None:
    """What captures on this device, or None where nothing can."""
    return CudaGraphs(device) if device.type == "cuda" else None


class Arena:
    """The graphs of an evaluator and of those made from it, of which one runs at a time: their memory, and their end.

    refused:  why none is captured any more, or ""
    """

    def __init__(self, device: torch.device) -> None:
        self.capture, self.refused = capture_for(device), ""
        self._device = device
        self._replays: WeakSet[Replays] = WeakSet()
        self._words: Tensor | None = None

    @property
    def able(self) -> bool:
        return self.capture is not None and not self.refused

    def add(self, replays: Replays) -> None:
        self._replays.add(replays)

    def words(self, room: int, like: Tensor) -> Tensor:
        """int64 [room, W]: the place that all graphs read words from."""
        if self._words is None or len(self._words) < room:
            with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
                self._words = like.new_zeros(room, like.shape[1])
        return self._words[:room]

    def refuse(self, reason: str) -> None:
        """Capture no more, and let go of what was captured: what failed once would fail again and again."""
        self.refused = reason
        for replays in self._replays:
            replays.graphs.clear()
        self._words = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def first_to_go(self, work: Callable[Given, T], *arguments: Given.args, **options: Given.kwargs) -> T:
        """What `work` gives; where memory runs out beside graphs, once more without them."""
        try:
            return work(*arguments, **options)
        except torch.OutOfMemoryError:
            if not any(replays.graphs for replays in self._replays):
                raise
        self.refuse("memory ran out beside CUDA graphs")  # behind the `except`, whose traceback holds tensors
        return work(*arguments, **options)


class Replay:
    """One captured generation of at most `len(words)` candidates; fewer leave rows of an earlier one behind theirs."""

    def __init__(self, work: Work, words: Tensor, capture: Capture) -> None:
        self.words = words
        self._launch, self._sums = capture(lambda: work(words))

    def __call__(self, words: Tensor) -> Tensor:
        self.words[:len(words)] = words
        self._launch()
        return self._sums[:len(words)].clone()  # at once: the next graph may write over them


class Replays:
    """The graphs over some inputs, the last few that were used."""

    def __init__(self, arena: Arena) -> None:
        self.graphs: OrderedDict[Hashable, Replay] = OrderedDict()
        self._seen: set[Hashable] = set()
        self._arena = arena
        arena.add(self)

    def sums(self, words: Tensor, kind: Hashable, work: Work) -> Tensor:
        """float64 [P]: what `work` gives, captured when it is asked for again.

        kind:  what else the work depends on
        """
        room = room_for(len(words))
        key = (room, kind)
        if key not in self._seen:
            self._seen.add(key)
            return work(words)
        if key not in self.graphs and (failure := self._captured(key, room, words, work)):
            self._arena.refuse(f"a generation could not be captured: {failure}")
            return work(words)  # an error that is no fault of capturing comes up here
        self.graphs.move_to_end(key)
        return self.graphs[key](words)

    def _captured(self, key: Hashable, room: int, words: Tensor, work: Work) -> str:
        """Make the graph; why that failed, want of memory included, or ""."""
        assert self._arena.capture is not None
        if len(self.graphs) == MOST_GRAPHS:
            self.graphs.popitem(last=False)
        try:
            self.graphs[key] = Replay(work, self._arena.words(room, words), self._arena.capture)
        except RuntimeError as error:
            return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return ""
