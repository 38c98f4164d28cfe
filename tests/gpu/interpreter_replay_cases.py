"""Generations as CUDA graphs, with a recorder in the place of those; test_triton_interpreter.py runs these as well."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optprune_fast.engine import device_replay
from optprune_fast.engine.chunks import ChunkPlan
from optprune_fast.engine.device_population import DevicePopulation
from optprune_fast.engine.device_replay import Arena, Replays
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.models import MLP
from optprune_fast.testing.nets import Net

SAMPLES = 6
STEP = 4  # candidates that the room of a graph is a multiple of: interpreted, 32 take long


class Case:
    def __init__(self, model, *shape):
        self.model = model
        self.data = torch.randn(SAMPLES, *shape), torch.randint(3, (SAMPLES,))
        layout = MaskLayout.of(model)
        self.masks, self.others = (random_masks(layout, layout.n // part, candidate_seeds(part, 0, 3))
                                   for part in (2, 3))

        self.captured = Evaluator(model, self.data, backend="triton")  # capturing a network takes a second

    def evaluator(self, memory=1 << 28):
        """As new."""
        compiled = self.captured._compiled
        compiled.memory, compiled.arena = memory, Arena(torch.device("cpu"))
        compiled.refresh()
        return self.captured

    def wanted(self):
        """By a device that captures nothing."""
        evaluator = self.evaluator()
        assert not evaluator._compiled.arena.able
        return evaluator(self.masks), evaluator(self.others)


@pytest.fixture(scope="module")
def mlp():
    torch.manual_seed(0)
    return Case(MLP([20, 9, 7, 3]), 20)


class Recorder:
    """Stands for a CUDA graph: does again what was captured. All of one write to the same memory.

    fails:  what a capture raises
    """

    def __init__(self, fails=None):
        self.captured, self.replayed, self.fails = 0, 0, fails
        self.memory = torch.full((256,), float("nan"), dtype=torch.float64)

    def __call__(self, work):
        self.captured += 1
        out = work()
        if self.fails is not None:
            raise self.fails
        place = self.memory[:len(out)]

        def launch():
            self.replayed += 1
            self.memory.fill_(float("nan"))
            place.copy_(work())
        return launch, place


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(device_replay, "capture_for", lambda device: made)
    monkeypatch.setattr(device_replay, "STEP", STEP)
    return made


def runner_of(evaluator):
    return evaluator._compiled.program(evaluator._example())


def test_a_generation_is_captured_when_it_is_asked_for_again(mlp, request):
    wanted, others = mlp.wanted()
    recorder = request.getfixturevalue("recorder")
    evaluator = mlp.evaluator()
    assert "; as one CUDA graph" in evaluator.explain()
    questions = [(mlp.masks, wanted), (mlp.others, others), (mlp.masks[:2], wanted[:2])]
    for replayed, (asked, answer) in enumerate(questions):
        assert torch.equal(evaluator(asked), answer)
        assert (recorder.captured, recorder.replayed) == (min(replayed, 1), replayed)
    for replayed in (3, 5, 7):  # error, for the first time, and cross-entropy; then both, which share memory
        metrics = evaluator.metrics(mlp.masks)
        assert torch.equal(metrics["loss"], wanted)
        assert (recorder.captured, recorder.replayed) == (min(replayed, 4) // 2, replayed)


def test_a_graph_captured_in_inference_mode_serves_outside_of_it(recorder):
    replays, words = Replays(Arena(torch.device("cpu"))), torch.arange(2).unsqueeze(1)

    def sums():
        return replays.sums(words, "kind", lambda some: some[:, 0].double())

    with torch.inference_mode():
        assert torch.equal(sums(), sums())
    assert sums().tolist() == [0, 1]
    assert (recorder.captured, recorder.replayed) == (1, 2)


def test_large_networks_unknown_steps_and_chunks_are_launched_step_by_step(mlp, recorder, monkeypatch):
    unlike = Case(Net(lambda m, x: m["b"](m["a"](x).cumsum(1)), a=nn.Linear(5, 7), b=nn.Linear(7, 4)), 5)
    for case, change in ((unlike, {}), (mlp, {"memory": 1}), (mlp, {"SMALL": 0})):
        monkeypatch.setattr("optprune_fast.engine.device_population.SMALL", change.pop("SMALL", 2 * 10**9))
        evaluator = case.evaluator(**change)
        assert torch.equal(evaluator(case.masks), evaluator(case.masks))
        assert "; launched step by step" in evaluator.explain()
    assert recorder.captured == 0


def test_few_graphs_are_kept(recorder):
    replays, words = Replays(Arena(torch.device("cpu"))), torch.ones(2, 1, dtype=torch.int64)
    for _ in range(3):
        for kind in range(6):
            replays.sums(words, kind, lambda some: some[:, 0].double())
    assert recorder.captured == 12  # each was thrown out by four others before it was asked for again
    assert len(replays.graphs) == device_replay.MOST_GRAPHS


def test_graphs_read_words_from_one_place(recorder):
    arena = Arena(torch.device("cpu"))
    few, many = torch.ones(2, 1, dtype=torch.int64), torch.ones(7, 1, dtype=torch.int64)
    over, asked = [Replays(arena), Replays(arena)], [many, few, many, few]
    answers = [replays.sums(words, "kind", lambda some: some[:, 0].double()) for replays in over for words in asked]
    assert [answer.tolist() for answer in answers] == [[1.0] * len(words) for words in asked * 2]
    assert len({replay.words.data_ptr() for replays in over for replay in replays.graphs.values()}) == 1
    assert recorder.captured == 4


# ---- memory


def test_graphs_and_chunks_share_the_budget(mlp, recorder):
    """A graph has room for more candidates than are asked for, which may be more than a chunk has."""
    evaluator = mlp.evaluator()
    runner = runner_of(evaluator)
    kept = runner.bytes.needed(ChunkPlan(STEP, SAMPLES)) + STEP * 8 * evaluator.layout.W
    for memory, expected in ((2 * kept, 1), (2 * kept - 2, 0)):
        small = mlp.evaluator(memory=memory)
        plans = []
        for _ in range(3):
            small(mlp.masks)
            plans.append(runner_of(small).plan(64, SAMPLES))
        assert recorder.captured == expected
        recorder.captured = 0
        assert len(set(plans)) == 1
        assert kept // 2 < runner.bytes.needed(plans[0]) <= memory - runner_of(small).graph_memory
    assert runner_of(small).plan(3, SAMPLES) == ChunkPlan(3, SAMPLES)


def test_evaluators_made_from_one_share_its_arena(mlp, recorder):
    evaluator = Evaluator(mlp.model, mlp.data, backend="triton", precision="fp16")
    made = [evaluator.scaled(2.0), evaluator.in_fp32(), evaluator.subset(torch.arange(3)), evaluator.on(mlp.data)]
    assert all(other._compiled.arena is evaluator._compiled.arena for other in made)
    for other in (*made, *made):
        other(mlp.masks)
    assert recorder.captured == 4
    evaluator._compiled.arena.refuse("enough")
    assert not any(replays.graphs for replays in evaluator._compiled.arena._replays)


def short_of_memory(monkeypatch, name, room):
    """Calls of this method of the runner run out of memory while `room()` says so."""
    plain, tries = getattr(DevicePopulation, name), []

    def method(self, *arguments):
        tries.append(arguments)
        if not room(*arguments):
            raise torch.OutOfMemoryError("no room")
        return plain(self, *arguments)

    monkeypatch.setattr(DevicePopulation, name, method)
    return tries


def test_graphs_go_before_chunks_get_smaller(mlp, recorder, monkeypatch):
    evaluator = mlp.evaluator()
    first = evaluator(mlp.masks)
    assert torch.equal(evaluator(mlp.masks), first)  # by a graph
    runner, outputs = runner_of(evaluator), evaluator.outputs(mlp.masks)
    budget, arena = runner.memory, evaluator._compiled.arena
    tries = short_of_memory(monkeypatch, "_outputs", lambda *_: not any(r.graphs for r in arena._replays))
    assert torch.equal(evaluator.outputs(mlp.masks), outputs)
    assert (len(tries), runner.memory, arena.able) == (2, budget, False)
    assert "launched step by step, since memory ran out beside CUDA graphs" in evaluator.explain()
    assert torch.equal(evaluator(mlp.masks), first)
    assert (recorder.captured, recorder.replayed) == (1, 1)
    monkeypatch.undo()
    tries = short_of_memory(monkeypatch, "_outputs", lambda words, inputs: len(words) * inputs.samples < 9)
    torch.testing.assert_close(evaluator.outputs(mlp.masks), outputs, atol=1e-5, rtol=1e-5)
    assert runner.memory < budget


def test_graphs_go_where_samples_find_no_room(mlp, recorder, monkeypatch):
    evaluator = mlp.evaluator()
    evaluator(mlp.masks), evaluator(mlp.masks)
    arena = evaluator._compiled.arena
    tries = short_of_memory(monkeypatch, "turn", lambda *_: not any(r.graphs for r in arena._replays))
    evaluator.outputs(mlp.masks)
    assert (len(tries), arena.able) == (2, False)


def test_memory_that_runs_out_without_graphs_is_no_reason_against_them(mlp, recorder, monkeypatch):
    evaluator = mlp.evaluator()
    short_of_memory(monkeypatch, "turn", lambda *_: False)
    with pytest.raises(torch.OutOfMemoryError):
        evaluator(mlp.masks)
    assert evaluator._compiled.arena.able


# ---- what cannot be captured


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing\nmore"),
                                   torch.OutOfMemoryError("no room for a graph")])
def test_where_a_capture_fails_all_is_launched_step_by_step_and_explained(mlp, recorder, error):
    evaluator = mlp.evaluator()
    wanted = evaluator(mlp.masks)
    evaluator.metrics(mlp.masks), evaluator.metrics(mlp.masks)
    assert len(next(iter(evaluator._compiled.arena._replays)).graphs) == 2
    recorder.fails, recorder.captured = error, 0
    twice = mlp.masks[[0, 1, 2] * 2]
    runner_of(evaluator).sums(twice.words, *captured_inputs(evaluator))
    assert not recorder.captured
    sums = runner_of(evaluator).sums(twice.words, *captured_inputs(evaluator))
    torch.testing.assert_close((sums / SAMPLES).float(), wanted.repeat(2))
    for _ in range(2):
        assert torch.equal(evaluator(mlp.masks), wanted)
    assert recorder.captured == 1
    assert not next(iter(evaluator._compiled.arena._replays)).graphs
    reason = str(error).splitlines()[0]
    assert f"step by step, since a generation could not be captured: {reason}\n" in evaluator.explain()


def captured_inputs(evaluator):
    [piece] = evaluator._compiled.pieces("cross_entropy")
    return piece.turned, piece.classes, "cross_entropy"


def test_an_error_of_the_work_itself_comes_up(mlp, recorder, monkeypatch):
    evaluator = mlp.evaluator()
    evaluator(mlp.masks)

    def broken(*arguments):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(DevicePopulation, "_chunk_sums", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        evaluator(mlp.masks)


# ---- torch's graphs


class Within:
    """A `with` that notes what is current."""

    def __init__(self, stack, item):
        self.stack, self.item = stack, item

    def __enter__(self):
        self.depth = len(self.stack)
        self.stack.append(self.item)

    def __exit__(self, *raised):
        del self.stack[self.depth:]


class Stream:
    def wait_stream(self, other):
        pass


class Graph:
    def replay(self):
        pass


@pytest.fixture
def torchs(monkeypatch):
    """torch.cuda as far as captures see it: current devices and streams, and what each capture was given."""
    devices, streams, given, pools = ["cuda:0"], [Stream()], [], iter(range(9))

    def graph(graph, **options):
        given.append((graph, options))
        return Within([], None)

    fakes = {"device": lambda device: Within(devices, str(device)), "Stream": Stream,
             "current_stream": lambda: streams[-1], "stream": lambda side: Within(streams, side), "graph": graph,
             "CUDAGraph": Graph, "graph_pool_handle": lambda: next(pools)}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return devices, streams, given


def test_a_graph_is_captured_on_the_device_of_the_network(torchs):
    """On the second of two GPUs, while the first is the current one, a graph would hold nothing."""
    devices, streams, given = torchs
    first, seen = streams[0], []
    capture = device_replay.capture_for(torch.device("cuda", 1))
    capture(lambda: seen.append((devices[-1], streams[-1])))
    [(_, options)] = given
    assert seen == [("cuda:1", options["stream"])] * 2  # the first call and the capture
    assert (devices, streams) == (["cuda:0"], [first])
    assert first is not options["stream"]


def test_graphs_share_memory_and_a_stream_while_one_of_them_lives(torchs):
    *_, given = torchs
    capture = device_replay.capture_for(torch.device("cuda", 0))
    kept = [capture(lambda: torch.zeros(1)) for _ in range(2)]
    pools = [options["pool"] for _, options in given]
    assert pools == [0, 0]
    assert given[0][1]["stream"] is given[1][1]["stream"]
    del kept[0]
    given.clear()
    kept.append(capture(lambda: torch.zeros(1)))
    assert given[0][1]["pool"] == 0
    del kept
    given.clear()
    capture(lambda: torch.zeros(1))  # what the last graph left is void
    assert given[0][1]["pool"] == 1


def test_a_capture_that_fails_leaves_the_current_stream(torchs):
    _, streams, _ = torchs
    first, calls = streams[0], iter([False, True])

    def work():
        if next(calls):
            streams.append(streams[-1])  # torch does not leave its stream then
            raise RuntimeError("not while capturing")
        return torch.zeros(1)

    with pytest.raises(RuntimeError, match="not while capturing"):
        device_replay.capture_for(torch.device("cuda", 0))(work)
    assert streams == [first]
