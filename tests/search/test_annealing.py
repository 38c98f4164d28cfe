"""Annealing accepts on a part of the data that doubles as it cools, and on all of them in the end."""

import pytest

from optprune_fast.masks.operators import swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.annealing import Annealing
from optprune_fast.search.strategy import OnPart

QUESTIONS = 60


def asked(problem, **knobs):
    """(question, progress, strategy) of a whole run; each is answered before the next."""
    strategy = Annealing(wide=40, keep=8, part=40, refresh=4, ranking=60, **knobs)
    strategy.start(problem)
    for number in range(QUESTIONS):
        strategy.progress = number / (QUESTIONS - 1)
        question = strategy.ask()
        if isinstance(question, PackedMasks):
            fitness = problem.evaluator(question)
        else:
            judge = question.part if isinstance(question, OnPart) else problem.evaluator
            fitness = judge.moves(*question[:2])
        strategy.tell(fitness)
        yield question, strategy.progress, strategy


def accepts_on(question, problem):
    if isinstance(question, PackedMasks):
        return None
    return question.part.samples if isinstance(question, OnPart) else problem.evaluator.samples


@pytest.mark.parametrize(("first", "sizes"), [(30, [37, 75, 150]), (75, [75, 150]), (76, [150]), (1000, [150])])
def test_what_accepts_doubles_up_to_all_data(problem_of, first, sizes):
    problem = problem_of(small=1, pool=1)
    seen = [(accepts_on(question, problem), progress) for question, progress, _ in asked(problem, first=first, leg=3)]
    assert list(dict.fromkeys(size for size, _ in seen if size)) == sizes
    for size, progress in seen:
        if size and size < 150:  # a leg of three steps of two questions, and that of the mask that ends it, go on
            assert progress <= (sizes.index(size) + 1) / len(sizes) + 7 / QUESTIONS


def test_on_a_part_the_mask_is_asked_about_on_all_data_after_every_leg(problem_of):
    problem = problem_of(small=1, pool=1)
    kinds = ""
    for question, _, strategy in asked(problem, first=30, leg=3):
        kind = {PackedMasks: "m", OnPart: "p"}.get(type(question), "s")
        # Accepted swaps that are asked about together belong to the step before.
        kinds += "" if kind == "p" and strategy.stage == "prefixes" else kind
    legs, singles = kinds[:kinds.index("s")], kinds[kinds.index("s"):]
    assert legs == "m" + "pppm" * (len(legs) // 4)
    assert set(singles) == {"s"}
    assert len(legs) > 20


def test_accepted_swaps_are_asked_about_together_and_never_share_a_weight(problem_of):
    problem = problem_of(small=1, pool=1)
    together, before = 0, None
    for question, _, strategy in asked(problem, first=1000, leg=3):
        if before is not None:  # what was asked about together: the longest accepted, or the best alone
            together += 1
            swapped = int((strategy.parent.words != before.words).any())
            assert swapped
            flips = [move[move >= 0].tolist() for move in question[1]]
            assert all(len(set(move)) == len(move) for move in flips)
            assert any(strategy.parent == swap(before, move[None]) for move in question[1])
        before = strategy.parent if strategy.stage == "prefixes" else None
    assert together >= 5


def test_the_loss_that_it_compares_with_is_that_of_its_mask_on_what_accepts(problem_of):
    problem = problem_of(small=1, pool=1)
    compared = set()
    for question, _, strategy in asked(problem, first=30, leg=3):
        judge = strategy._judge() or problem.evaluator
        assert strategy.loss == pytest.approx(float(judge(strategy.parent)[0]), rel=1e-6)
        compared.add((judge.samples, type(question)))
    assert len(compared) >= 5


def test_smaller_parts_lie_in_larger_ones(problem_of):
    problem = problem_of()
    assert problem.doublings(30) == 2
    small, large = (next(iter(problem.first_part(number).batches)).args[0] for number in (2, 1))
    assert (len(small), len(large)) == (37, 75)
    rows = {tuple(row) for row in large.tolist()}
    assert all(tuple(row) in rows for row in small.tolist())
