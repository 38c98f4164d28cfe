"""Moves in the engine on a GPU, on CPU tensors in Triton's interpreter; test_triton_interpreter.py runs these as well.

The oracle is a loop over the moved masks in float64.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from optprune_fast import prune
from optprune_fast.engine.chunks import ChunkPlan
from optprune_fast.engine.device_bytes import DeviceBytes
from optprune_fast.engine.device_moves import moved_end
from optprune_fast.engine.device_steps import MaskedStep
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks, swap
from optprune_fast.models import MLP, TinyTransformer
from optprune_fast.runtime import native
from optprune_fast.runtime.dispatch import calls
from optprune_fast.testing.nets import Net
from optprune_fast.testing.tolerance import network_limit

SAMPLES = 7


def lenet(m, x):
    return m["c"](m["b"](F.max_pool2d(m["a"](x).relu(), 2).flatten(1)).relu())


def branches(m, x):
    """What `a` gives is read twice, and so is the weight of `b`; nothing reads `idle`."""
    y = m["a"](x).relu()
    return m["c"](m["b"](m["b"](y).tanh()) + y)


# Behind the name: of each masked step, how far behind it the layer lies whose moved sums are made; none: it runs anew.
NETS = {
    "mlp": (lambda: MLP([70, 19, 17, 5]), (70,), [1, 1, 0]),
    "gelu": (lambda: nn.Sequential(nn.Linear(9, 40), nn.GELU(), nn.Linear(40, 6), nn.Linear(6, 6), nn.ELU(),
                                   nn.Linear(6, 4), nn.Sigmoid()), (9,), [1, 1, 1, 0]),
    "lenet": (lambda: Net(lenet, a=nn.Conv2d(1, 3, 3), b=nn.Linear(12, 9), c=nn.Linear(9, 4)), (1, 6, 6), [None, 1, 0]),
    "branches": (lambda: Net(branches, a=nn.Linear(6, 5), b=nn.Linear(5, 5), c=nn.Linear(5, 3), idle=nn.Linear(2, 2)),
                 (6,), [0, 1, 0, 0]),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8),
                    [None, 0, 0, 0, 0, 1, 0, 0]),
}


class Case:
    def __init__(self, name):
        torch.manual_seed(len(name))
        make, shape, _ = NETS[name]
        self.model, self.inputs = make().eval(), torch.randn(SAMPLES, *shape)
        self.targets = torch.randint(3, (SAMPLES,))
        self.layout = MaskLayout.of(self.model)
        self.parent = random_masks(self.layout, self.layout.n // 2, candidate_seeds(5, 0, 1))
        draw = torch.Generator().manual_seed(1)
        self.moves = torch.stack([torch.randperm(self.layout.n, generator=draw)[:4] for _ in range(6)])
        self.moves[::3, 1:], self.moves[1::3, :2] = -1, -1  # single flips, pairs behind fills, four at once
        ends = [[layer.first_weight, layer.weights.stop - 1, -1, -1] for layer in self.layout]
        row = [[layer.first_weight, layer.first_weight + 1, -1, -1] for layer in self.layout]
        self.moves = torch.cat([self.moves, torch.tensor([*ends, *row, [-1] * 4])])

    def evaluator(self, objective="cross_entropy", **options):
        return Evaluator(self.model, (self.inputs, self.targets), objective, **{"backend": "triton", **options})

    def outputs(self, masks, dtype=torch.float64):
        state = {name: tensor.to(dtype) for name, tensor in self.model.state_dict().items()}
        with torch.no_grad():
            return torch.stack([functional_call(
                self.model, {**state, **{name: state[name] * bits[0] for name, bits in mask.to_dense().items()}},
                (self.inputs.to(dtype),)) for mask in masks])

    def judge(self, fitness, moves, precision="fp32"):
        masks = swap(self.parent, moves)
        exact, plain = self.outputs(masks), self.outputs(masks, torch.float32)
        losses = torch.stack([F.cross_entropy(one, self.targets) for one in exact])
        limit = network_limit(exact, plain, terms=70, layers=len(self.layout), precision=precision)
        error = float((fitness - losses).abs().max())
        assert error <= limit
        return losses


@pytest.fixture(scope="module")
def cases():
    return {name: Case(name) for name in NETS}


@pytest.mark.parametrize("name", NETS)
def test_moves_are_evaluations_of_the_neighbours(cases, name):
    case = cases[name]
    before, words = calls["moved_linear", "triton"], case.parent.words.clone()
    losses = case.judge(case.evaluator().moves(case.parent, case.moves), case.moves)
    assert calls["moved_linear", "triton"] > before
    assert torch.equal(case.parent.words, words)
    assert len(losses.unique()) > len(losses) // 2  # or the moves would show nothing


@pytest.mark.parametrize("name", NETS)
@pytest.mark.skipif(native.missing("moves") is not None, reason="no compiled module")
def test_moves_are_those_of_the_engine_on_a_cpu(cases, name):
    case = cases[name]
    ours, cpu = (case.evaluator(backend=b).moves(case.parent, case.moves[:8]) for b in ("triton", "native"))
    torch.testing.assert_close(ours, cpu, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", NETS)
def test_differences_reach_the_linear_layer_behind_that_alone_reads_them(cases, name):
    runner = cases[name].evaluator()._compiled
    program = runner.program(runner.batches.kinds[0].example)
    masked = [i for i, step in enumerate(program.steps) if isinstance(step, MaskedStep)]
    ends = [moved_end(program.steps, i, program.graph.output) for i in masked]
    assert [None if end is None else end - i for i, end in zip(masked, ends, strict=True)] == NETS[name][2]


@pytest.mark.parametrize("kept", [0, 1])
def test_flips_along_one_path(cases, kept):
    """A unit's own weight, the next layer's weight on it, that of another unit, and the last layer's."""
    case = Case("mlp")
    first, second, third = case.layout.layers
    case.parent = random_masks(case.layout, kept * case.layout.n // 2, candidate_seeds(5, 0, 1))
    moves = torch.tensor([[first.first_weight + unit * first.columns + 3,
                           second.first_weight + row * second.columns + unit,
                           second.first_weight + row * second.columns + 2, third.first_weight + row, -1]
                          for unit, row in ((0, 0), (18, 16), (7, 4))])
    case.judge(case.evaluator().moves(case.parent, moves), moves)


def test_a_move_of_many_flips(cases):
    case = cases["mlp"]
    moves = torch.full((2, 90), -1)
    moves[0], moves[1, 5:25] = torch.arange(0, 1710, 19), torch.arange(20)
    case.judge(case.evaluator().moves(case.parent, moves), moves)


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_no_moves(cases, shape):
    case = cases["mlp"]
    evaluator = case.evaluator()
    found = evaluator.moves(case.parent, torch.zeros(shape, dtype=torch.int64))
    torch.testing.assert_close(found, evaluator(case.parent).expand(shape[0]))


@pytest.mark.parametrize("objective", ["error", "kl_to_dense", "mse_to_dense"])
@pytest.mark.parametrize("name", ["mlp", "gelu"])
def test_moves_follow_the_objective(cases, name, objective):
    case = cases[name]
    evaluator = case.evaluator(objective)
    found = evaluator.moves(case.parent, case.moves)
    torch.testing.assert_close(found, evaluator(swap(case.parent, case.moves)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "gelu"])
def test_fp16_keeps_its_rule_and_is_that_of_the_moved_masks(cases, name):
    case = cases[name]
    evaluator = case.evaluator(precision="fp16")
    found = evaluator.moves(case.parent, case.moves)
    case.judge(found, case.moves, "fp16")
    torch.testing.assert_close(found, evaluator(swap(case.parent, case.moves)), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", ["mlp", "branches"])
def test_chunks_and_batches_agree(cases, name, monkeypatch):
    case, plans = cases[name], []
    plan = DeviceBytes.plan

    def noted(self, memory, candidates, samples):
        plans.append(plan(self, memory, candidates, samples))
        return plans[-1]

    moves = case.moves[[0, 2, 5, -1]]
    whole = case.evaluator().moves(case.parent, moves)
    monkeypatch.setattr(DeviceBytes, "plan", noted)
    torch.testing.assert_close(case.evaluator(memory=1).moves(case.parent, moves), whole, atol=1e-5, rtol=1e-5)
    assert set(plans) == {ChunkPlan(1, 1)}
    batches = [(case.inputs[:4], case.targets[:4]), (case.inputs[4:], case.targets[4:])]
    stream = Evaluator(case.model, batches, backend="triton", stream=True)
    torch.testing.assert_close(stream.moves(case.parent, moves), whole, atol=1e-5, rtol=1e-5)


def test_less_memory_than_thought_means_smaller_chunks(cases, monkeypatch):
    case = cases["mlp"]
    evaluator = case.evaluator()
    wanted, tries = evaluator.moves(case.parent, case.moves), []
    module = "optprune_fast.engine.device_moves"
    plain = __import__(module, fromlist=["terms_of"]).terms_of

    def short(first, end, read, words, moves):
        tries.append(len(moves))
        if len(moves) > 2:
            raise torch.OutOfMemoryError("no room")
        return plain(first, end, read, words, moves)

    monkeypatch.setattr(f"{module}.terms_of", short)
    torch.testing.assert_close(evaluator.moves(case.parent, case.moves), wanted)
    assert max(tries) > 2 >= tries[-1]


def test_bad_moves_are_refused_as_on_a_cpu(cases):
    case = cases["mlp"]
    evaluator = case.evaluator()
    for wrong, text in (([[case.layout.n]], "indices must lie in"), ([[-2]], "indices must lie in"),
                        ([[3, 3]], "may name a weight once only")):
        with pytest.raises(ValueError, match=text):
            evaluator.moves(case.parent, torch.tensor(wrong))
    with pytest.raises(ValueError, match="must drop as many weights as it adds"):
        evaluator.moves(case.parent, torch.tensor([[0, -1]]), keep_budget=True)


def test_explain_says_where_moves_start(cases):
    assert "2 of 3 masked steps by differences, convolutions anew" in cases["lenet"].evaluator().explain()
    assert "moves    moved masks are evaluated whole" in cases["mlp"].evaluator(plan=False).explain()


@pytest.mark.parametrize("strategy", ["swap", "annealing"])
def test_a_local_search_runs_by_them(strategy):
    torch.manual_seed(0)
    model, inputs = MLP([8, 6, 3]).eval(), torch.randn(24, 8)
    targets = model(inputs).argmax(1)
    before = calls["moved_linear", "triton"]
    result = prune(model, (inputs, targets), sparsity=0.5, strategy=strategy, evaluations=60, backend="triton", seed=0)
    assert calls["moved_linear", "triton"] > before
    assert result.fitness <= result.baseline
    assert int(result.mask.count()) == result.mask.layout.budget(0.5)
