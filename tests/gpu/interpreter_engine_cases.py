"""The engine on a GPU, on CPU tensors in Triton's interpreter; test_triton_interpreter.py runs these as well.

The oracle is a loop over the candidates in float64. bfloat16 is wrong in the interpreter, and tf32 is float32 there:
what these round, only a GPU can show.
"""

from __future__ import annotations

import re
import traceback
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from optprune_fast.engine import device_replay
from optprune_fast.engine.chunks import ChunkPlan
from optprune_fast.engine.device_bytes import DeviceBytes
from optprune_fast.engine.device_population import DevicePopulation
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, TinyTransformer
from optprune_fast.runtime import native
from optprune_fast.runtime.dispatch import calls
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.nets import Net
from optprune_fast.testing.tolerance import network_limit


def lenet(m, x):
    y = F.max_pool2d(m["a"](x).relu(), 2)
    return m["d"](m["c"](F.max_pool2d(m["b"](y).relu(), 2).flatten(1)).relu())


def residual(m, x):
    y = m["n1"](m["a"](x)).relu()
    return m["fc"]((m["n2"](m["b"](y)) + y).relu().mean((2, 3)))


def unlike(m, x):
    """What is the same for all candidates meets what is not; a convolution along one axis; a step that has no name."""
    y = m["a"](x) + x[:, :1]
    return m["b"](y.cumsum(2)).sum(1)


NETS = {
    "mlp": (lambda: MLP([70, 19, 17, 5]), (70,)),
    "lenet": (lambda: Net(lenet, a=nn.Conv2d(1, 3, 3), b=nn.Conv2d(3, 5, 3, padding=1), c=nn.Linear(20, 9),
                          d=nn.Linear(9, 4)), (1, 10, 10)),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
    "residual": (lambda: Net(residual, a=nn.Conv2d(2, 4, 3, padding=1, bias=False), n1=nn.BatchNorm2d(4),
                             b=nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), n2=nn.BatchNorm2d(4),
                             fc=nn.Linear(4, 3)), (2, 5, 4)),
    "unlike": (lambda: Net(unlike, a=nn.Conv1d(2, 3, 3, padding=1), b=nn.Linear(7, 4)), (2, 7)),
}
SAMPLES = 6


class Case:
    def __init__(self, name):
        torch.manual_seed(len(name))
        make, shape = NETS[name]
        self.model = make().eval()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        self.inputs = torch.randn(SAMPLES, *shape)
        self.targets = torch.randint(3, (SAMPLES,))
        self.data = self.inputs, self.targets
        self.layout = MaskLayout.of(self.model)
        self.masks = random_masks(self.layout, self.layout.n // 2, candidate_seeds(7, 0, 3))

    def evaluator(self, **options):
        return Evaluator(self.model, self.data, backend="triton", **options)

    def outputs(self, masks, dtype=torch.float64):
        state = {name: tensor.to(dtype) for name, tensor in self.model.state_dict().items()}
        kept = [{name: state[name] * bits[0] for name, bits in mask.to_dense().items()} for mask in masks]
        with torch.no_grad():
            outputs = [functional_call(self.model, {**state, **one}, (self.inputs.to(dtype),)) for one in kept]
        return torch.stack(outputs)


@pytest.fixture(scope="module")
def cases():
    return {name: Case(name) for name in NETS}


def rule(outputs64, outputs32, precision="fp32"):
    return network_limit(outputs64, outputs32, terms=70, layers=4, precision=precision)


@pytest.mark.parametrize("name", NETS)
def test_fitness_and_outputs_are_those_of_a_loop(cases, name):
    case = cases[name]
    evaluator = case.evaluator()
    assert isinstance(evaluator._compiled.program(evaluator._example()), DevicePopulation)
    wanted = case.outputs(case.masks)
    limit = rule(wanted, case.outputs(case.masks, torch.float32))
    before = calls["masked_linear", "triton"]
    assert float((evaluator.outputs(case.masks) - wanted).abs().max()) <= limit
    assert calls["masked_linear", "triton"] > before
    losses = torch.stack([F.cross_entropy(one, case.targets) for one in wanted])
    metrics = evaluator.metrics(case.masks)
    assert float((evaluator(case.masks) - losses).abs().max()) <= limit
    assert float((metrics["loss"] - losses).abs().max()) <= limit
    right = (wanted.argmax(2) == case.targets).sum(1)
    assert torch.equal((SAMPLES * metrics["accuracy"]).round().long(), right)
    assert evaluator(case.masks[:0]).shape == (0,)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
def test_fitness_is_that_of_the_engine_on_a_cpu(cases, name):
    case = cases[name]
    ours, cpu = (Evaluator(case.model, case.data, backend=backend)(case.masks) for backend in ("triton", "native"))
    wanted = case.outputs(case.masks)
    assert float((ours - cpu).abs().max()) <= 2 * rule(wanted, case.outputs(case.masks, torch.float32))


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_fp16_keeps_its_rule_and_is_not_fp32(cases, name):
    case = cases[name]
    wanted = case.outputs(case.masks)
    limit = rule(wanted, case.outputs(case.masks, torch.float32), "fp16")
    exact, half = case.evaluator().outputs(case.masks), case.evaluator(precision="fp16").outputs(case.masks)
    assert float((half - exact).abs().max()) > 1e-5
    assert float((half - wanted).abs().max()) <= limit


def test_what_masked_layers_alone_read_is_kept_in_16_bits_and_changes_no_bit(cases, monkeypatch):
    evaluator = cases["mlp"].evaluator(precision="fp16")
    runner = evaluator._compiled.program(evaluator._example())
    assert [step.stored for step in runner.steps if hasattr(step, "stored")] == [torch.float16] * 2 + [torch.float32]
    fitness = evaluator(cases["mlp"].masks)
    for module in ("device_steps", "device_population"):
        monkeypatch.setattr(f"optprune_fast.engine.{module}.narrow_values", lambda *arguments: frozenset())
    assert torch.equal(cases["mlp"].evaluator(precision="fp16")(cases["mlp"].masks), fitness)


@pytest.mark.parametrize("objective", ["kl_to_dense", "mse_to_dense", "error"])
def test_other_objectives_agree_with_plain_torch(cases, objective):
    case = cases["mlp"]
    ours, plain = (Evaluator(case.model, case.data, objective, backend=backend)(case.masks)
                   for backend in ("triton", "torch"))
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "transformer", "unlike"])
def test_chunks_agree(cases, name):
    case = cases[name]
    whole = case.evaluator()(case.masks)
    evaluator = case.evaluator(memory=1)
    runner = evaluator._compiled.program(evaluator._example())
    assert runner.bytes.plan(1, 3, SAMPLES) == ChunkPlan(1, 1)
    torch.testing.assert_close(evaluator(case.masks), whole, atol=1e-5, rtol=1e-5)


def test_streamed_data_a_logit_scale_subsets_and_refresh_agree(cases):
    case = cases["mlp"]
    fitness = case.evaluator()(case.masks)
    stream = Evaluator(case.model, [(case.inputs[:4], case.targets[:4]), (case.inputs[4:], case.targets[4:])],
                       backend="triton", stream=True)
    torch.testing.assert_close(stream(case.masks), fitness)
    evaluator = case.evaluator()
    scaled = evaluator.scaled(3.0).outputs(case.masks)
    torch.testing.assert_close(scaled, 3 * evaluator.outputs(case.masks), atol=1e-5, rtol=1e-5)
    some = torch.tensor([4, 1])
    alone = Evaluator(case.model, (case.inputs[some], case.targets[some]), backend="triton")(case.masks)
    torch.testing.assert_close(evaluator.subset(some)(case.masks), alone)
    with torch.no_grad():
        case.model.layers[-1].bias += 1
    evaluator.refresh()
    torch.testing.assert_close(evaluator(case.masks), fitness)  # the softmax does not see what all logits share
    assert float((evaluator.outputs(case.masks) - scaled / 3 - 1).abs().max()) < 1e-5
    with torch.no_grad():
        case.model.layers[-1].bias -= 1


def test_every_tensor_is_made_on_the_device_that_the_masks_are_on(cases):
    """Where all devices are a CPU, one that is not named would not be missed."""
    nameless, makers = [], (torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.tensor, torch.randn)

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in makers and (kwargs or {}).get("device") is None:
                nameless.append("".join(traceback.format_stack(limit=3)[:-1]))
            return func(*args, **(kwargs or {}))

    for case in (cases[name] for name in ("mlp", "transformer", "unlike")):
        evaluator, pairs = case.evaluator(), PackedMasks.cat([case.masks, case.masks])
        moves = torch.tensor([[0, 1], [2, -1]])
        evaluator(pairs)
        evaluator.moves(case.masks[0], moves)  # the layout keeps a table, of which each device gets a copy
        with Watch():
            evaluator(pairs)
            evaluator.outputs(case.masks)
            evaluator.metrics(case.masks)
            evaluator.moves(case.masks[0], moves)
        assert nameless == [], "\n".join(nameless)


# ---- one CUDA graph a generation


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


# ---- memory


def test_less_memory_than_thought_means_smaller_chunks(cases, monkeypatch):
    case = cases["mlp"]
    evaluator = case.evaluator()
    wanted = evaluator(case.masks)
    plain, seen = DevicePopulation._chunk_sums, []

    def short(self, words, inputs, targets, objective):
        seen.append((len(words), inputs.samples))
        if len(words) * inputs.samples > 4:
            raise torch.OutOfMemoryError("no room")
        return plain(self, words, inputs, targets, objective)

    monkeypatch.setattr(DevicePopulation, "_chunk_sums", short)
    torch.testing.assert_close(evaluator(case.masks), wanted)
    tries = len(seen)
    assert seen[0] == (3, SAMPLES)
    torch.testing.assert_close(evaluator(case.masks), wanted)
    assert all(rows * columns <= 4 for rows, columns in seen[tries:])  # the second call knows


def test_no_memory_for_one_sample_is_an_error_with_the_numbers(cases, monkeypatch):
    evaluator = cases["mlp"].evaluator()

    def none(*arguments):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(DevicePopulation, "_chunk_sums", none)
    with pytest.raises(MemoryError, match=r"no memory for one candidate on one sample[\s\S]*on_one_sample  \d{3}\n"):
        evaluator(cases["mlp"].masks)


def test_no_memory_grows_with_candidates_times_weights(cases):
    case = cases["mlp"]
    evaluator = case.evaluator()
    evaluator(case.masks)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    many = PackedMasks.cat([case.masks] * 7)
    with Watch():
        evaluator._compiled.sums(many.words, "cross_entropy")
    own = evaluator._compiled.program(evaluator._example()).bytes.own
    assert largest <= max(many.words.nbytes, len(many) * SAMPLES * own)
    assert largest < len(many) * case.layout.n


def test_bytes_are_those_of_what_is_alive(cases):
    runner = cases["mlp"].evaluator()._compiled
    program = runner.program(runner.batches.kinds[0].example)
    assert program.bytes == DeviceBytes(own=4 * (19 + 17), shared=4 * 70)  # two layers beside one another; the input


# ---- what is said


def test_explain_says_what_runs_where(cases):
    text = cases["residual"].evaluator(precision="tf32").explain()
    lines = [re.split(r"  +", line) for line in text.splitlines()]
    assert ["conv2d + bias + relu", "triton", "4×2×3×3", "shared", "64×64, stacked", "float32"] in lines
    assert ["conv2d + bias", "triton", "4×2×3×3", "own", "64×16", "float32"] in lines
    assert ["add", "torch", "own"] in lines
    assert ["linear + bias + loss", "triton", "3×4", "own"] in lines
    assert "multiply tf32 in masked layers" in text
    assert "launched step by step" in text
    one_by_one = [re.split(r"  +", line) for line in cases["residual"].evaluator(memory=1).explain().splitlines()]
    assert ["conv2d + bias + relu", "triton", "4×2×3×3", "shared", "128×16", "float32"] in one_by_one


def test_a_plan_that_is_not_wanted_or_not_possible_goes_layer_by_layer(cases):
    case = cases["mlp"]
    assert "plan=False" in case.evaluator(plan=False).explain()
    fitness = case.evaluator(plan=False, precision="fp16")(case.masks)
    wanted = case.outputs(case.masks)
    limit = rule(wanted, case.outputs(case.masks, torch.float32), "fp16")
    losses = torch.stack([F.cross_entropy(one, case.targets) for one in wanted])
    assert 1e-6 < float((fitness - losses).abs().max()) <= limit


def test_bf16_is_declined_because_the_interpreter_is_wrong(cases):
    with pytest.raises(BackendError, match="interpreter computes bfloat16 wrongly"):
        cases["mlp"].evaluator(precision="bf16")


def test_a_pruned_weight_that_no_kernel_reads_is_left_to_the_general_way():
    model = Net(lambda m, x: m["b"](m["a"](x).flatten(1)), a=nn.Embedding(9, 3), b=nn.Linear(6, 2))
    layout = MaskLayout.from_shapes({"layers.a.weight": (9, 3), "layers.b.weight": (2, 6)})
    data = torch.randint(9, (4, 2)), torch.randint(2, (4,))
    evaluator = Evaluator(model, data, backend="triton", layout=layout)
    assert not evaluator._compiled.ready
    assert "layers.a.weight" in evaluator._compiled.reason
    masks = random_masks(layout, 20, candidate_seeds(7, 0, 2))
    plain = Evaluator(model, data, backend="torch", layout=layout)
    torch.testing.assert_close(evaluator(masks), plain(masks), atol=1e-5, rtol=1e-5)
