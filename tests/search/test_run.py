"""A run: exact limits, a fair judge, NaN and Ctrl-C, a bar that is silent where nobody looks."""

import pytest
import torch

from optprune_fast.runtime.errors import EvaluationWarning
from optprune_fast.search import STRATEGIES, strategy_named
from optprune_fast.search import run as run_module
from optprune_fast.search.chain import Chain
from optprune_fast.search.run import Limits, run
from optprune_fast.search.strategy import OnPart, Strategy

LONGEST = {"straight_through": 81}  # 400 steps in legs of 5, and the start
ENDLESS = [name for name in STRATEGIES if name != "levels"]  # two layers have few levels: it tries them all, and ends


class Tampered:
    """An evaluator whose fitness passes through `change`; counts its calls. So are those on parts of the data."""

    def __init__(self, inner, change=lambda fitness, calls: fitness):
        self.inner, self.change = inner, change
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def subset(self, samples):
        return Tampered(self.inner.subset(samples), self.change)

    def __call__(self, masks):
        return self._told(self.inner(masks))

    def moves(self, parent, moves):
        return self._told(self.inner.moves(parent, moves))

    def _told(self, fitness):
        self.calls += 1
        return self.change(fitness.clone(), self.calls)


# ---- limits


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("evaluations", [1, 2, 95, 96, 97, 250])
def test_the_limit_of_evaluations_is_met_exactly(small_one, problem_of, validation, name, evaluations, monkeypatch):
    asked, most = [], LONGEST.get(name, evaluations)
    evaluate = run_module._evaluate

    def counted(question, judge):  # of the calibration data or a part of them
        fitness = evaluate(question, judge)
        asked.extend(fitness.tolist() if judge is not validation else [])
        return fitness

    monkeypatch.setattr(run_module, "_evaluate", counted)
    outcome = run(problem_of(), small_one(name), validation, Limits(evaluations))
    assert len(asked) == outcome.evaluations == min(evaluations, most)
    assert outcome.stopped_by == ("evaluations" if evaluations <= most else "strategy")


def test_a_time_limit_ends_the_run_after_the_question_that_passes_it(problem_of, evaluator, validation):
    now = [100.0]

    def an_hour_passes(fitness, calls):
        now[0] += 3600
        return fitness

    slow = Tampered(evaluator, an_hour_passes)
    outcome = run(problem_of(evaluator=slow), strategy_named("genetic"), validation, Limits(seconds=2.5 * 3600),
                  clock=lambda: now[0])
    assert slow.calls == 3
    assert outcome.stopped_by == "time"
    assert outcome.seconds == 3 * 3600
    assert outcome.history[0]["seconds"] == 3600


def test_whichever_limit_comes_first_ends_the_run(problem_of, validation):
    assert run(problem_of(), strategy_named("swap"), validation, Limits(5, 1e6)).stopped_by == "evaluations"
    outcome = run(problem_of(), strategy_named("swap"), validation, Limits(10**9, 1e-9))
    assert (outcome.stopped_by, outcome.evaluations) == ("time", 0)
    assert outcome.mask == problem_of().magnitude


@pytest.mark.parametrize(("limits", "text"), [
    ({"evaluations": 0}, "evaluations must be at least 1"),
    ({"evaluations": -3}, "evaluations must be at least 1"),
    ({"seconds": 0}, "time_limit must be more than 0 seconds"),
    ({"seconds": float("nan")}, "time_limit must be more than 0 seconds"),
    ({}, "a search needs an end"),
])
def test_limits_that_never_or_always_end_are_errors(limits, text):
    with pytest.raises(ValueError, match=text):
        Limits(**limits)


# ---- what is returned


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_result_is_the_best_on_validation_of_what_was_judged(small_one, problem_of, validation, name):
    judged = Tampered(validation)
    outcome = run(problem_of(small=1, pool=1), small_one(name), judged, Limits(400))
    assert outcome.baseline == float(validation(problem_of().magnitude)[0])
    assert outcome.validation == float(validation(outcome.mask)[0])
    assert outcome.validation == min([outcome.baseline, *(row["validation"] for row in outcome.history)])
    fitness = [row["fitness"] for row in outcome.history]
    assert fitness == sorted(set(fitness), reverse=True)
    assert judged.calls == 1 + len(outcome.history)


def test_where_validation_says_that_all_is_worse_magnitude_comes_back(problem_of, validation):
    def only_the_first_is_good(fitness, calls):
        return fitness if calls == 1 else fitness + 100

    outcome = run(problem_of(), strategy_named("swap"), Tampered(validation, only_the_first_is_good), Limits(200))
    assert outcome.mask == problem_of().magnitude
    assert outcome.validation == outcome.baseline
    assert len(outcome.history) > 1


def test_a_baseline_that_is_nan_does_not_hide_better_masks(problem_of, validation):
    def nan_first(fitness, calls):
        return fitness * float("nan") if calls == 1 else fitness

    with pytest.warns(EvaluationWarning, match="NaN for 1 of 1 candidates"):
        outcome = run(problem_of(), strategy_named("swap"), Tampered(validation, nan_first), Limits(100))
    assert outcome.baseline == float("inf")
    assert outcome.validation < 100


@pytest.mark.parametrize("name", ["genetic", "swap"])  # others have schedules, which a limit stretches
@pytest.mark.parametrize("call", [1, 2, 4])
def test_an_interrupted_run_returns_what_it_had_found(small_one, problem_of, evaluator, validation, name, call):
    def interrupted(fitness, calls):
        if calls == call:
            raise KeyboardInterrupt
        return fitness

    stopped = run(problem_of(evaluator=Tampered(evaluator, interrupted)), small_one(name), validation,
                  Limits(10**6))
    assert stopped.stopped_by == "interrupt"
    if call == 1:
        assert (stopped.evaluations, stopped.mask) == (0, problem_of().magnitude)
        return
    whole = run(problem_of(), small_one(name), validation, Limits(stopped.evaluations))
    assert whole.stopped_by == "evaluations"
    assert (stopped.mask, stopped.validation) == (whole.mask, whole.validation)


class OnParts(Strategy):
    """Asks about the start, then about swaps on a part of the data, then about the best of these on all."""

    name = "on_parts"

    def start(self, problem):
        self.problem, self.question = problem, 0
        self.part = problem.evaluator.subset(torch.arange(20))
        drops, adds = (flags.indices()[:6] for flags in (problem.magnitude & ~problem.core, problem.pool))
        self.moves = torch.stack([drops, adds], 1)

    def ask(self):
        self.question += 1
        if self.question == 1:
            return self.problem.start
        if self.question == 2:
            return OnPart(self.problem.start, self.moves, self.part)
        return (self.problem.start, self.moves[self.best][None]) if self.question == 3 else None

    def tell(self, fitness):
        if self.question == 2:
            assert torch.equal(fitness, self.part.moves(self.problem.start, self.moves))
            self.best = int(fitness.argmin())


@pytest.mark.parametrize("made", [OnParts, lambda: Chain([(OnParts(), 1.0)])])
def test_what_a_part_of_the_data_says_is_counted_and_decides_nothing(problem_of, validation, evaluator, made):
    """Fitness is far lower on the part, so a run that took it for fitness on all data would return one of its swaps."""
    part = evaluator.subset(torch.arange(20))
    problem, strategy = problem_of(evaluator=Lower(evaluator, part)), made()
    outcome = run(problem, strategy, validation, Limits(10**6))
    assert (outcome.evaluations, outcome.stopped_by) == (1 + 6 + 1, "strategy")
    assert [row["evaluations"] for row in outcome.history] in ([1], [1, 8])
    assert outcome.best >= float(evaluator(problem.magnitude)[0]) - 1
    if isinstance(strategy, Chain):
        assert strategy.best_fitness == outcome.best


class Lower(Tampered):
    """Its parts give fitness that is lower by 100."""

    def __init__(self, inner, part):
        super().__init__(inner)
        self.lower = Tampered(part, lambda fitness, calls: fitness - 100)

    def subset(self, samples):
        return self.lower


# ---- NaN


@pytest.mark.parametrize("name", sorted(set(ENDLESS) - {"straight_through"}))  # which asks for one mask at a time
def test_a_nan_counts_as_infinitely_bad_and_the_run_goes_on(small_one, problem_of, evaluator, validation, name):
    def every_third_is_nan(fitness, calls):
        fitness[1::3] = float("nan")
        return fitness

    told = []
    strategy = small_one(name)
    tell = strategy.tell
    strategy.tell = lambda fitness: (told.append(fitness), tell(fitness))
    with pytest.warns(EvaluationWarning, match=r"the objective gave NaN for \d+ of \d+ candidates"):
        outcome = run(problem_of(evaluator=Tampered(evaluator, every_third_is_nan)), strategy, validation, Limits(500))
    assert outcome.evaluations == 500
    long = [fitness for fitness in told if len(fitness) > 1]
    assert long
    for fitness in long:
        assert fitness[1::3].isinf().all()
        assert not fitness.isnan().any()
    assert outcome.history
    assert all(row["fitness"] < 100 for row in outcome.history)


# ---- the progress bar


def test_the_progress_bar_is_silent_where_nobody_looks(problem_of, validation, capsys):
    run(problem_of(), strategy_named("genetic"), validation, Limits(100))
    run(problem_of(), strategy_named("genetic"), validation, Limits(100), progress=False)
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_shows_fitness_and_evaluations_when_asked_for(problem_of, validation, capsys):
    run(problem_of(), strategy_named("genetic"), validation, Limits(100), progress=True)
    out, shown = capsys.readouterr()
    assert out == ""
    assert "100/100 evaluations" in shown
    assert "fitness" in shown
    assert "magnitude" in shown
