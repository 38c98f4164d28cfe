"""Strategies of one's own: masks or moves, an end of their choice, and rules that they are held to."""

import dataclasses

import pytest
import torch

from optprune_fast.masks.operators import random_masks
from optprune_fast.search.run import Limits, run
from optprune_fast.search.strategy import Strategy


class Mine(Strategy):
    """Asks `questions` one after the other, then is done."""

    name = "mine"

    def __init__(self, *questions):
        self.questions, self.told = list(questions), []

    def start(self, problem):
        self.problem = problem

    def ask(self):
        if not self.questions:
            return None
        question = self.questions.pop(0)
        return question(self.problem) if callable(question) else question

    def tell(self, fitness):
        self.told.append(fitness)


def drawn(problem, number, **wishes):
    wishes = {"core": problem.core, "within": problem.open, "budget": problem.budget, **wishes}
    return random_masks(problem.layout, wishes.pop("budget"), list(range(number)), **wishes)


def test_a_strategy_may_ask_for_masks_then_for_moves_and_may_end(problem_of, evaluator, validation):
    problem = problem_of()
    drop = (problem.magnitude & problem.open).indices()[:3]
    add = problem.pool.indices()[:3]
    moves = torch.stack([drop, add], dim=1)
    strategy = Mine(drawn(problem, 5), (problem.magnitude, moves))
    outcome = run(problem, strategy, validation, Limits(100))
    assert outcome.stopped_by == "strategy"
    assert outcome.evaluations == 8
    assert torch.equal(strategy.told[0], evaluator(drawn(problem, 5)))
    assert torch.equal(strategy.told[1], evaluator.moves(problem.magnitude, moves))


def test_a_question_that_the_limit_cuts_is_not_told(problem_of, validation):
    strategy = Mine(lambda problem: drawn(problem, 5), lambda problem: drawn(problem, 5))
    assert run(problem_of(), strategy, validation, Limits(7)).evaluations == 7
    assert [len(fitness) for fitness in strategy.told] == [5]


@pytest.mark.parametrize(("question", "text"), [
    (lambda p: drawn(p, 2, budget=p.budget - 1), r"strategy 'mine': every candidate must keep exactly the budget\n"
                                                 r"  budget  48\n  kept  \[47, 47\]"),
    (lambda p: ~p.magnitude, "strategy 'mine': every candidate must keep exactly the budget"),
    (lambda p: (p.magnitude, p.pool.indices()[:4].reshape(2, 2)), r"kept  \[50, 50\]"),
    (lambda p: drawn(p, 2, core=None, within=~p.core), "strategy 'mine': every candidate must keep the core"),
    (lambda p: (p.magnitude, torch.stack([p.core.indices()[:1], p.pool.indices()[:1]], dim=1)), "must keep the core"),
    (lambda p: p.magnitude[:0], "strategy 'mine': .*at least one"),
    (lambda p: (p.magnitude, torch.empty(0, 2, dtype=torch.int64)), "strategy 'mine': .*at least one"),
])
def test_a_strategy_that_breaks_the_rules_is_named(problem_of, validation, question, text):
    never_asked = dataclasses.replace(problem_of(), evaluator=None)
    with pytest.raises(ValueError, match=text):
        run(never_asked, Mine(question), validation, Limits(100))
