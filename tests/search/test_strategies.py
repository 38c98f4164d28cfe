"""Whatever a strategy asks for keeps the budget and the core; swap search never takes a step back."""

import pytest
import torch

from optprune_fast.masks.operators import swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search import STRATEGIES, strategy_named
from optprune_fast.search.chain import Chain
from optprune_fast.search.genetic import Genetic
from optprune_fast.search.strategy import OnPart
from optprune_fast.search.swaps import SwapSearch

ENDLESS = [name for name in STRATEGIES if name != "levels"]  # two layers have few levels: see test_levels.py
SHAPES = [(0.9, 0.5, 0.4), (0.9, 1, 1), (0.5, 0.1, 0.02), (0.98, 0.2, 0.01), (0.9, 0.05, 1)]


def rounds(strategy, problem, number):
    """(masks asked for, their fitness on all data) of each round."""
    strategy.start(problem)
    for _ in range(number):
        asked = strategy.ask()
        if asked is None:
            return
        masks = asked if isinstance(asked, PackedMasks) else swap(*asked[:2])
        fitness = problem.evaluator(masks)
        yield masks, fitness
        strategy.tell(asked.part(masks) if isinstance(asked, OnPart) else fitness)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("sparsity", "small", "pool"), SHAPES)
def test_every_candidate_keeps_budget_and_core_and_chooses_from_what_is_open(small_one, problem_of, name, sparsity,
                                                                             small, pool):
    problem = problem_of(sparsity, small, pool)
    seen = 0
    for masks, _ in rounds(small_one(name), problem, 40):
        assert masks.count().tolist() == [problem.budget] * len(masks)
        assert not (problem.core.words & ~masks.words).any()
        assert not (masks.words & ~(problem.core | problem.open).words).any()
        assert not (masks.words & ~problem.layout.valid).any()
        seen += len(masks)
    assert seen >= (40 if name in ENDLESS else 0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_magnitude_is_the_first_candidate(small_one, problem_of, name):
    problem = problem_of()
    masks, _ = next(rounds(small_one(name), problem, 1))
    assert masks[0] == problem.magnitude


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("shares", [{"small": 0}, {"pool": 0}])
def test_a_strategy_ends_where_nothing_is_to_choose(problem_of, name, shares):
    problem = problem_of(**shares)
    asked = [masks for masks, _ in rounds(strategy_named(name), problem, 9)]
    assert len(asked) == 1
    assert asked[0] == problem.magnitude


@pytest.mark.parametrize("name", ENDLESS)
def test_the_best_fitness_asked_for_beats_magnitude(small_one, problem_of, name):
    told = [fitness for _, fitness in rounds(small_one(name), problem_of(small=1, pool=1), 30)]
    assert torch.cat(told).min() < 0.98 * told[0][0]


def test_the_parent_of_swap_search_never_gets_worse_between_kicks(problem_of):
    strategy, problem = SwapSearch(pairs=12), problem_of(0.95, small=0.5, pool=0.1)
    loss, kicks, accepted = float("inf"), 0, 0
    for _ in rounds(strategy, problem, 250):
        if strategy.stage != "singles":
            continue
        # The loop body runs before `tell`, so this is the state after the round before.
        assert strategy.loss == float(problem.evaluator(strategy.parent)[0])
        if strategy.kicks == kicks:
            assert strategy.loss <= loss
            accepted += strategy.loss < loss
        loss, kicks = strategy.loss, strategy.kicks
    assert kicks >= 2
    assert accepted >= 5


def test_a_kick_starts_from_the_best_mask(problem_of):
    strategy, problem = SwapSearch(pairs=12, kick=0.1), problem_of(0.95, small=0.5, pool=0.1)
    best = float("inf")
    for masks, fitness in rounds(strategy, problem, 250):
        if strategy.stage == "parent" and strategy.kicks:
            assert float(problem.evaluator(strategy.best)[0]) == strategy.best_loss == best
            swaps = max(1, round(0.1 * problem.choices))
            assert problem.budget - int(masks.overlap(strategy.best)) == swaps
        else:
            best = min(best, float(fitness.min()))
    assert strategy.kicks >= 2


def test_survivors_of_the_genetic_algorithm_are_the_best_so_far(small_one, problem_of):
    strategy, problem = small_one("genetic"), problem_of()
    told, checked = [], 0
    for _, fitness in rounds(strategy, problem, 8):
        if told:
            assert torch.equal(strategy.fitness, torch.cat(told).sort().values[:6])
            assert torch.equal(strategy.fitness, problem.evaluator(strategy.survivors))
            checked += 1
        told.append(fitness)
    assert checked == 7


@pytest.mark.parametrize("name", ENDLESS)
def test_a_seed_repeats_every_question_and_another_asks_others(small_one, problem_of, name):
    def questions(seed):
        problem = problem_of(0.9, small=1, pool=1, seed=seed)
        return torch.cat([masks.words for masks, _ in rounds(small_one(name), problem, 30)])

    first = questions(0)
    assert torch.equal(first, questions(0))
    other = questions(1)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_strategies_are_found_by_name():
    for name, kind in STRATEGIES.items():
        assert type(strategy_named(name)) is kind
        assert strategy_named(name).name == name
    auto = strategy_named("auto")
    assert auto.name == "auto"
    assert Chain(auto.stages).name == "straight_through, then swap, then annealing"
    own = Genetic(population=3)
    assert strategy_named(own) is own


def test_an_unknown_strategy_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"one of auto, .*, swap, cma, .*, or a Strategy of your own\n"
                                         r"  strategy  'tabu'"):
        strategy_named("tabu")


# ---- chains


def test_a_chain_starts_each_stage_from_the_best_mask_so_far(small_one, problem_of):
    stages = [(small_one("genetic"), 0.4), (SwapSearch(pairs=12, kick=0), 0.8), (small_one("annealing"), 1.0)]
    chain, problem = Chain(stages), problem_of(small=1, pool=1)
    chain.start(problem)
    best, began = float("inf"), []
    for question in range(60):
        before, chain.progress = chain.stage if question else -1, question / 60
        asked = chain.ask()
        if chain.stage != before:
            began.append((chain.stage, question))
            parent = asked[:1] if isinstance(asked, PackedMasks) else asked[0]
            assert question == 0 or float(problem.evaluator(parent)[0]) == best
        judge = asked.part if isinstance(asked, OnPart) else problem.evaluator
        fitness = judge(asked) if isinstance(asked, PackedMasks) else judge.moves(*asked[:2])
        best = min(best, float(fitness.min())) if judge is problem.evaluator else best
        chain.tell(fitness)
    assert [stage for stage, _ in began] == [0, 1, 2]
    assert began[1][1] == 24
    assert began[2][1] <= 48
    assert stages[2][0].progress > 0.5


def test_a_chain_stretches_the_progress_of_a_stage_over_its_share(problem_of):
    seen = []

    class Watch(Genetic):
        def ask(self):
            seen.append(self.progress)
            return super().ask()

    chain = Chain([(Watch(population=2, children=2), 0.5), (Watch(population=2, children=2), 1.0)])
    chain.start(problem_of())
    for chain.progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        chain.tell(torch.zeros(len(chain.ask())))
    assert seen == [0.0, 0.5, 0.0, 0.5, 1.0]


def test_swap_search_without_kicks_ends_where_no_swap_helps(problem_of):
    problem = problem_of(0.95, small=0.5, pool=0.1)
    strategy = SwapSearch(pairs=12, kick=0)
    asked = list(rounds(strategy, problem, 1000))
    assert len(asked) < 1000
    assert strategy.ask() is None
    singles = strategy._propose()
    assert bool((problem.evaluator.moves(strategy.parent, singles) >= strategy.loss).all())
