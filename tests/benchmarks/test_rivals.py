"""Every rival gives the loss; one that lies, fails or answers from memory is found out before it counts."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks.masked_forward.task import NETWORKS, problem
from optprune_fast.bench import OURS, TORCH, Problem, chosen, fresh_masks
from optprune_fast.bench.oracle import Oracle, RivalError
from optprune_fast.bench.race import Rules, race
from optprune_fast.bench.rival import Prepared, Rival
from optprune_fast.bench.rivals import compiled

pytestmark = pytest.mark.usefixtures("one_thread")

ONCE = Rules(rounds=1)
# Compiled by the part of torch.compile that needs no C++ compiler: the same code of ours, and a test of seconds.
COMPILED = [partial(compiled.prepare_loop, compiler="eager"), partial(compiled.prepare_vmap, compiler="eager"),
            partial(compiled.prepare_loop, compiler="eager", channels_last=True)]


@pytest.mark.parametrize("density", [1.0, 0.1])
@pytest.mark.parametrize("network", NETWORKS)
def test_all_rivals_give_the_loss_of_float64(network, density):
    task = problem(network, 4, small=True, density=density)
    rivals = chosen(["torch"])
    rows = race(task, rivals, density, 3, ONCE)  # raises where one is wrong
    assert [row["rival"] for row in rows] == [rival.name for rival in rivals]
    declined = {row["rival"] for row in rows if row["declined"]}
    assert declined == (set() if network == "mlp" else {"sparse CSR"})
    assert all(row["calls"] == 1 and row["useful_gflops"] > 0 for row in rows if not row["declined"])


@pytest.mark.parametrize("prepare", COMPILED, ids=["loop", "vmap", "channels last"])
def test_compiled_rivals_give_the_loss_of_float64(prepare):
    race(problem("lenet5", 3, small=True), [Rival("compiled", prepare)], 0.5, 2, ONCE)


@pytest.mark.parametrize("backend", OURS)
def test_ours_names_the_backend_that_it_found(backend, tiny):
    [row] = race(tiny, [OURS[backend]], 0.5, 2, ONCE)
    assert row["ours"]
    assert bool(row["detail"]) == (backend == "auto")


def test_losses_differ_from_mask_to_mask_at_every_density():
    """Else a rival could take one mask for another, and no check would notice. (Networks this small are cut into
    pieces at 0.02, the full ones are not.)"""
    for name in NETWORKS:
        for density in (1.0, 0.1):
            task = problem(name, 4, small=True, density=density)
            oracle = Oracle(task, fresh_masks(task, density, 3, 0))
            assert oracle.reference.unique().numel() == 3
            assert float(oracle.reference.std()) > 10 * oracle.limit, (name, density)


# ---- liars


def unlike(change):
    """The plain loop, but for `change`."""
    def prepare(task, masks):
        honest = TORCH[0].prepare(task, masks).fitness
        return Prepared(change(honest))
    return Rival("liar", prepare)


def rotten_memory(honest):
    seen = []

    def fitness(masks):
        seen.append(honest(masks))
        return seen[0]
    return fitness


def breaks(honest):
    def fitness(masks):
        raise RuntimeError("out of luck")
    return fitness


LIARS = {
    "a candidate for another": (lambda honest: lambda masks: honest(masks).flip(0), "does not give the loss"),
    "nan": (lambda honest: lambda masks: honest(masks) * float("nan"), "does not give the loss"),
    "a little off": (lambda honest: lambda masks: honest(masks) + 1e-4, "does not give the loss"),
    "one for all": (lambda honest: lambda masks: honest(masks).mean(), "one loss a candidate"),
    "what it said before": (rotten_memory, "in a timed call"),
    "an exception": (breaks, "failed: RuntimeError: out of luck"),
}


@pytest.mark.parametrize(("change", "text"), LIARS.values(), ids=LIARS)
def test_a_rival_that_lies_or_fails_is_an_error(change, text, tiny):
    with pytest.raises(RivalError, match=text):
        race(tiny, [TORCH[0], unlike(change)], 0.5, 4, ONCE)


def test_a_stated_reason_is_no_failure(tiny):
    rows = race(tiny, [TORCH[0], Rival("shy", breaks, declines=lambda task: "not today")], 0.5, 4, ONCE)
    assert (rows[1]["declined"], rows[1]["median_s"], rows[1]["ratio"]) == ("not today", None, None)


# ---- what is compared


def test_every_call_has_masks_that_nobody_has_seen():
    task = problem("mlp", 4, small=True)
    seen = []

    def prepare(task, masks):
        honest = TORCH[0].prepare(task, masks).fitness

        def fitness(masks):
            seen.append(masks.packed.words)
            return honest(masks)
        return Prepared(fitness)

    race(task, [Rival("watcher", prepare)], 1.0, 4, Rules(rounds=3))
    words = torch.cat(seen)
    assert len(seen) == 4
    assert len(words.unique(dim=0)) == 16


def test_useful_work_is_that_of_the_kept_weights():
    conv = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(12, 5)).eval()
    task = Problem("conv", conv, torch.zeros(7, 2, 4, 4), torch.zeros(7, dtype=torch.int64))
    assert task.uses == {"0.weight": 4, "2.weight": 1}
    masks = fresh_masks(task, 0.5, 2, 0)
    kept = [int(masks.dense[name].sum()) for name in task.uses]
    assert task.useful_flop(masks.packed) == 2 * 7 * (4 * kept[0] + kept[1])


class OwnProduct(torch.nn.Module):
    """Its weight is not that of a layer whose work we can count."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)

    def forward(self, x):
        return x @ self.layer.weight.T


def test_work_that_cannot_be_counted_is_not_guessed():
    task = Problem("own", OwnProduct().eval(), torch.ones(4, 5), torch.zeros(4, dtype=torch.int64))
    assert task.uses is None
    rows = race(task, chosen(["torch"]), 0.5, 2, ONCE)
    assert {row["useful_gflops"] for row in rows} == {None}


# ---- bad input


def test_bad_arguments_are_named(tiny):
    with pytest.raises(ValueError, match="no such rival or backend"):
        chosen(without=["vmop"])
    with pytest.raises(ValueError, match="no such rival or backend"):
        chosen(["magic"])
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\]"):
        fresh_masks(tiny, 0.0, 2, 0)
    with pytest.raises(ValueError, match="same number of samples"):
        Problem("odd", tiny.model, tiny.inputs[:2], tiny.targets)
    with pytest.raises(ValueError, match="eval mode"):
        Problem("training", torch.nn.Linear(2, 2).train(), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
