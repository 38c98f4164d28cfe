"""One CUDA graph a generation, by one that only remembers; test_triton_interpreter.py runs these as well."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from optprune_fast.engine import device_replay
from optprune_fast.masks.operators import candidate_seeds, random_masks


class Recorder:
    """Stands for a CUDA graph: does again what was captured, and writes to the same memory."""

    def __init__(self):
        self.captured, self.replayed = 0, 0

    def __call__(self, work):
        self.captured += 1
        out = work().clone()

        def launch():
            self.replayed += 1
            out.copy_(work())
        return launch, out


def test_a_generation_is_captured_when_it_is_asked_for_again(cases, monkeypatch):
    case, recorder = cases["mlp"], Recorder()
    masks = random_masks(case.layout, case.layout.n // 3, candidate_seeds(1, 0, 3))
    wanted, others = case.evaluator()(case.masks), case.evaluator()(masks)
    monkeypatch.setattr(device_replay, "capture_for", lambda device: recorder)
    evaluator = case.evaluator()
    assert "as one CUDA graph" in evaluator.explain()
    for replayed, (asked, answer) in enumerate([(case.masks, wanted), (masks, others), (case.masks[:2], wanted[:2])]):
        assert torch.equal(evaluator(asked), answer)
        assert (recorder.captured, recorder.replayed) == (min(replayed, 1), replayed)
    evaluator.metrics(case.masks)  # error, for the first time, and cross-entropy
    assert (recorder.captured, recorder.replayed) == (1, 3)


def test_a_graph_captured_in_inference_mode_serves_outside_of_it():
    recorder, replays, words = Recorder(), device_replay.Replays(), torch.arange(2).unsqueeze(1)

    def sums():
        return replays.sums(words, "kind", lambda some: some[:, 0].double(), recorder)

    with torch.inference_mode():
        assert torch.equal(sums(), sums())
    assert sums().tolist() == [0, 1]
    assert (recorder.captured, recorder.replayed) == (1, 2)


def test_large_networks_unknown_steps_and_chunks_are_launched_step_by_step(cases, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(device_replay, "capture_for", lambda device: recorder)
    for name, change in (("unlike", {}), ("mlp", {"memory": 1}), ("mlp", {"SMALL": 0})):
        monkeypatch.setattr("optprune_fast.engine.device_population.SMALL", change.pop("SMALL", 2 * 10**9))
        evaluator = cases[name].evaluator(**change)
        assert torch.equal(evaluator(cases[name].masks), evaluator(cases[name].masks))
    assert recorder.captured == 0


def test_few_graphs_are_kept():
    recorder, replays, words = Recorder(), device_replay.Replays(), torch.ones(2, 1, dtype=torch.int64)
    for _ in range(3):
        for kind in range(6):
            replays.sums(words, kind, lambda some: some[:, 0].double(), recorder)
    assert recorder.captured == 12  # each was thrown out by four others before it was asked for again
    assert len(replays._graphs) == device_replay.MOST_GRAPHS


def test_a_graph_is_captured_on_the_device_of_the_network(monkeypatch):
    """On the second of two GPUs, while the first is the current one, a graph would hold nothing."""
    current, seen = ["cuda:0"], []

    class Within:
        def __init__(self, device=None):
            self.device = device

        def __enter__(self):
            current.append(self.device or current[-1])

        def __exit__(self, *raised):
            current.pop()

    stream = SimpleNamespace(wait_stream=lambda other: seen.append(str(current[-1])))
    fakes = {"device": Within, "Stream": lambda: stream, "current_stream": lambda: stream,
             "stream": lambda side: Within(), "graph": lambda graph: Within(),
             "CUDAGraph": lambda: SimpleNamespace(replay="again")}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    capture = device_replay.capture_for(torch.device("cuda", 1))
    assert capture(lambda: seen.append(str(current[-1]))) == ("again", None)
    assert seen == ["cuda:1"] * 4  # two waits, the first call and the capture
