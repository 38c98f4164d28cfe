"""A generation of a small network as one CUDA graph: what is launched is said once, and then again in one word.

    first call      eagerly, and Triton compiles
    second call     captured: words are read from one place, sums are written to one place
    from then on    words in, replay, sums out
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial

import torch
from torch import Tensor

Work = Callable[[Tensor], Tensor]  # words [P, W] -> sums [P]
# Makes a function that does again what `work` did, and returns it with what `work` gave: its memory is written anew.
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]

STEP = 32  # candidates: a generation without its duplicates takes the graph of those with a few more
MOST_GRAPHS = 4  # each keeps the memory of its values


def cuda_graph(device: torch.device, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    with torch.cuda.device(device):  # a graph holds what the current device is given, which may be another one
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):  # once more, since libraries set themselves up in a first call: that is no launch
            work()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = work()
    return graph.replay, out


def capture_for(device: torch.device) -> Capture | None:
    """What captures on this device, or None where nothing can."""
    return partial(cuda_graph, device) if device.type == "cuda" else None


class Replay:
    """One captured generation of at most `len(words)` candidates; fewer leave rows of an earlier one behind theirs."""

    def __init__(self, work: Work, words: Tensor, capture: Capture) -> None:
        self.words = words
        self._launch, self._sums = capture(lambda: work(words))

    def __call__(self, words: Tensor) -> Tensor:
        self.words[:len(words)] = words
        self._launch()
        return self._sums[:len(words)].clone()


class Replays:
    """The graphs over some inputs, the last few that were used."""

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()
        self._graphs: OrderedDict[Hashable, Replay] = OrderedDict()

    def sums(self, words: Tensor, kind: Hashable, work: Work, capture: Capture) -> Tensor:
        """float64 [P]: what `work` gives, captured when it is asked for again.

        kind:  what else the work depends on
        """
        room = -(-len(words) // STEP) * STEP
        key = (room, kind)
        if key not in self._seen:
            self._seen.add(key)
            return work(words)
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                self._graphs.popitem(last=False)
            with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
                self._graphs[key] = Replay(work, words.new_zeros(room, words.shape[1]), capture)
        self._graphs.move_to_end(key)
        return self._graphs[key](words)
