"""Run a strategy under limits, and keep the best mask that it finds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.operators import swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import EvaluationWarning, message
from optprune_fast.search.journal import Journal
from optprune_fast.search.problem import Problem
from optprune_fast.search.strategy import OnPart, Strategy

Question = PackedMasks | tuple[PackedMasks, Tensor]


@dataclass(frozen=True)
class Limits:
    """When to stop: after `evaluations` candidates, or after `seconds`; None is no limit."""

    evaluations: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.evaluations is not None and self.evaluations < 1:
            raise ValueError(message("prune", "evaluations must be at least 1", evaluations=self.evaluations))
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(message("prune", "time_limit must be more than 0 seconds", time_limit=self.seconds))
        if self.evaluations is None and self.seconds is None:
            raise ValueError(message("prune", "a search needs an end", "give evaluations= or time_limit="))


@dataclass
class Outcome:
    """What a search found. `validation` and `baseline` are on the held-out part, `best` on the calibration data."""

    mask: PackedMasks
    validation: float
    baseline: float
    evaluations: int = 0
    seconds: float = 0.0
    stopped_by: str = ""
    best: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)


def run(problem: Problem, strategy: Strategy, validation: Evaluator, limits: Limits, *, journal: Journal | None = None,
        progress: bool | None = None, title: str = "prune", clock: Callable[[], float] = time.monotonic,
        spent: float = 0.0) -> Outcome:
    """Ask, evaluate, tell, until a limit, the end of the strategy or Ctrl-C.

    Whenever the fitness on the calibration data improves, the mask is judged on `validation`, and the best there is
    kept; the magnitude mask is the first to be judged, so nothing worse is ever returned. With a `journal`, a run goes
    on where an earlier one was when the journal was written. `title` names the progress bar; `spent` are seconds of the
    limit that went before.
    """
    start = clock() - spent
    # Asked before anything else, so that what cannot be kept is said before any work.
    written = None if journal is None else journal.read(problem.layout)
    strategy.start(problem)
    if written is None:
        baseline = float(_evaluate(problem.magnitude, validation)[0])
        outcome = Outcome(problem.magnitude, baseline, baseline)
    else:
        outcome = _restored(written, problem, strategy)
        start = clock() - outcome.seconds
    if outcome.stopped_by:
        return outcome
    bar = _bar(limits, progress, title)
    try:
        while True:
            outcome.seconds = clock() - start
            outcome.stopped_by = _limit_reached(limits, outcome.evaluations, outcome.seconds)
            if outcome.stopped_by:
                break
            if journal is not None and journal.due:
                journal.write(_state(outcome, problem, strategy))
            strategy.progress = _share_used(limits, outcome.evaluations, outcome.seconds)
            asked = strategy.ask()
            if asked is None:
                outcome.stopped_by = "strategy"
                break
            judge = asked.part if isinstance(asked, OnPart) else problem.evaluator
            question = (asked.parent, asked.moves) if isinstance(asked, OnPart) else asked
            whole = _size(question)
            question = _first(question, limits, outcome.evaluations)
            _check(question, problem, strategy)
            fitness = _evaluate(question, judge)
            outcome.evaluations += len(fitness)
            winner = int(fitness.argmin())
            if judge is problem.evaluator and float(fitness[winner]) < outcome.best:
                outcome.best = float(fitness[winner])
                _judge(_mask(question, winner), outcome, validation, clock() - start)
            _advance(bar, limits, outcome, clock() - start)
            if len(fitness) == whole:  # a cut question is not told: the run is over
                strategy.tell(fitness)
    except KeyboardInterrupt:
        outcome.stopped_by = "interrupt"
    finally:
        bar.close()
    outcome.seconds = clock() - start
    if journal is not None and outcome.stopped_by != "interrupt":  # interrupted, it goes on from what was written last
        journal.write(_state(outcome, problem, strategy))
    return outcome


def _state(outcome: Outcome, problem: Problem, strategy: Strategy) -> dict[str, Any]:
    """All that the rest of a run depends on."""
    return {"outcome": {f.name: getattr(outcome, f.name) for f in fields(Outcome)},
            "logit_scale": problem.evaluator.logit_scale, "work": dict(vars(problem.work)),
            "strategy": strategy.state()}


def _restored(state: dict[str, Any], problem: Problem, strategy: Strategy) -> Outcome:
    vars(problem.work).update(state["work"])
    strategy.restore(state["strategy"])
    return Outcome(**state["outcome"])


def _judge(mask: PackedMasks, outcome: Outcome, validation: Evaluator, seconds: float) -> None:
    judged = float(_evaluate(mask, validation)[0])
    outcome.history.append({"evaluations": outcome.evaluations, "seconds": seconds, "fitness": outcome.best,
                            "validation": judged})
    if judged < outcome.validation:
        outcome.mask, outcome.validation = mask, judged


def _limit_reached(limits: Limits, evaluations: int, seconds: float) -> str:
    if limits.evaluations is not None and evaluations >= limits.evaluations:
        return "evaluations"
    return "time" if limits.seconds is not None and seconds >= limits.seconds else ""


def _share_used(limits: Limits, evaluations: int, seconds: float) -> float:
    counted = 0.0 if limits.evaluations is None else evaluations / limits.evaluations
    return max(counted, 0.0 if limits.seconds is None else min(1.0, seconds / limits.seconds))


def _size(asked: Question) -> int:
    return len(asked) if isinstance(asked, PackedMasks) else len(asked[1])


def _first(asked: Question, limits: Limits, evaluations: int) -> Question:
    """No more of the question than the limit has room for."""
    if limits.evaluations is None:
        return asked
    room = limits.evaluations - evaluations
    return asked[:room] if isinstance(asked, PackedMasks) else (asked[0], asked[1][:room])


def _mask(asked: Question, number: int) -> PackedMasks:
    return asked[number] if isinstance(asked, PackedMasks) else swap(asked[0], asked[1][number:number + 1])


def _check(asked: Question, problem: Problem, strategy: Strategy) -> None:
    """Every candidate keeps the budget and the core, or the strategy is at fault and named."""
    if _size(asked) == 0:
        raise ValueError(message(f"strategy {strategy.name!r}", "it must ask for at least one candidate",
                                 "return None when nothing is left to try", asked=asked))
    masks = asked if isinstance(asked, PackedMasks) else swap(*asked)
    wrong = masks.count() != problem.budget
    if bool(wrong.any()):
        raise ValueError(message(f"strategy {strategy.name!r}", "every candidate must keep exactly the budget",
                                 budget=problem.budget, kept=masks.count()[wrong].tolist()[:8]))
    if bool((masks.words & problem.core.words != problem.core.words).any()):
        raise ValueError(message(f"strategy {strategy.name!r}", "every candidate must keep the core",
                                 core=problem.core))


def _evaluate(asked: Question, evaluator: Evaluator) -> Tensor:
    fitness = evaluator(asked) if isinstance(asked, PackedMasks) else evaluator.moves(*asked)
    lost = fitness.isnan()
    if bool(lost.any()):
        warnings.warn(f"the objective gave NaN for {int(lost.sum())} of {len(fitness)} candidates; they count as "
                      "infinitely bad", EvaluationWarning, stacklevel=3)
        fitness = torch.where(lost, torch.inf, fitness)
    return fitness


def _bar(limits: Limits, progress: bool | None, title: str) -> tqdm:
    total = limits.evaluations if limits.evaluations is not None else limits.seconds
    shape = "{desc} {bar} {n:.0f}/{total:.0f}" + (" evaluations" if limits.evaluations is not None else " s")
    # disable=None is silent when the output is not a terminal.
    return tqdm(total=total, desc=title, bar_format=shape + " {postfix}", leave=False,
                disable=None if progress is None else not progress)


def _advance(bar: tqdm, limits: Limits, outcome: Outcome, seconds: float) -> None:
    bar.n = outcome.evaluations if limits.evaluations is not None else min(seconds, bar.total)
    bar.set_postfix_str(f"fitness {outcome.best:.4f}, validation {outcome.validation:.4f} "
                        f"(magnitude {outcome.baseline:.4f})")
