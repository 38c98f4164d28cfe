"""The engine on a GPU, on CPU tensors in Triton's interpreter; test_triton_interpreter.py runs these as well.

The oracle is a loop over the candidates in float64. bfloat16 is wrong in the interpreter, and tf32 is float32 there:
what these round, only a GPU can show.
"""

from __future__ import annotations

import re
import traceback

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optprune_fast.engine.chunks import ChunkPlan
from optprune_fast.engine.device_population import DevicePopulation
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime import native
from optprune_fast.runtime.dispatch import calls
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.nets import Net
from tests.gpu.engine_networks import NETS, SAMPLES, rule


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
