"""Adapters: scores out of another library's optimizer, fitness back into it; with the library, and with a tiny fake."""

# ruff: noqa: NPY002
# The libraries draw from the global generator of NumPy, so the fakes and the tests do.

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from optprune_fast.search import strategy_named
from optprune_fast.search.adapters import ADAPTERS
from optprune_fast.search.adapters import cma as cma_adapter
from optprune_fast.search.adapters.cma import Cma
from optprune_fast.search.adapters.evotorch import EvoTorch
from optprune_fast.search.adapters.nevergrad import Nevergrad
from optprune_fast.search.adapters.pymoo import Pymoo
from optprune_fast.search.run import Limits, run

SMALL_ONES = {"cma": lambda: Cma(population=6), "evotorch": lambda: EvoTorch(population=6),
              "evotorch cem": lambda: EvoTorch("cem", population=10), "nevergrad": lambda: Nevergrad(population=6),
              "pymoo": lambda: Pymoo(population=6), "pymoo de": lambda: Pymoo("de", population=6),
              "pymoo pso": lambda: Pymoo("pso", population=6)}


class FakeOptimizer:
    """Normal noise around where it starts, from NumPy's global generator; remembers what it was told."""

    def __init__(self, start, number):
        self.start, self.number, self.told = start, number, []

    def ask(self):
        return list(self.start + np.random.randn(self.number, len(self.start)))

    def tell(self, scores, fitness):
        self.told += list(zip(scores, fitness, strict=True))


def fake_cma(optimizers):
    def strategy(start, spread, options):
        assert spread == 0.3
        assert options["CMA_diagonal"] is True
        optimizers.append(FakeOptimizer(start, options["popsize"]))
        return optimizers[-1]

    return {"cma": SimpleNamespace(CMAEvolutionStrategy=strategy)}


def fake_nevergrad(optimizers):
    class OneByOne(FakeOptimizer):
        def __init__(self, scores, num_workers):
            super().__init__(scores.init, num_workers)
            optimizers.append(self)

        def ask(self):
            return SimpleNamespace(value=super().ask()[0])

        def tell(self, candidate, fitness):
            super().tell([candidate.value], [fitness])

    class Array(SimpleNamespace):
        random_state = np.random.RandomState()

        def set_mutation(self, sigma):
            return self

    return {"nevergrad": SimpleNamespace(p=SimpleNamespace(Array=Array),
                                         optimizers=SimpleNamespace(registry={"TwoPointsDE": OneByOne}))}


def fake_pymoo(optimizers):
    class GA(FakeOptimizer):
        def __init__(self, pop_size, sampling):
            super().__init__(sampling[0], pop_size)
            optimizers.append(self)

        def setup(self, problem, seed, verbose, termination):
            assert problem.xl[0] == -1

        def ask(self):
            return {"X": np.stack(super().ask())}

        def tell(self, infills):
            super().tell(infills["X"], infills["F"])

    class Problem:
        def __init__(self, n_var, n_obj, xl, xu):
            self.xl, self.xu = np.full(n_var, xl), np.full(n_var, xu)

    class Evaluator:
        def eval(self, problem, population):
            population["F"] = problem.F[:, 0]

    return {"pymoo.algorithms.soo.nonconvex.ga": SimpleNamespace(GA=GA),
            "pymoo.core.problem": SimpleNamespace(Problem=Problem),
            "pymoo.core.termination": SimpleNamespace(NoTermination=lambda: None),
            "pymoo.core.evaluator": SimpleNamespace(Evaluator=Evaluator),
            "pymoo.problems.static": SimpleNamespace(StaticProblem=lambda _, F: SimpleNamespace(F=F))}


def fake_evotorch(optimizers):
    def pgpe(center_init, **_):
        optimizers.append(FakeOptimizer(center_init.numpy(), 6))
        return optimizers[-1]

    def tell(optimizer, scores, fitness):
        optimizer.tell(scores.numpy(), fitness.tolist())
        return optimizer

    return {"evotorch.algorithms.functional": SimpleNamespace(
        pgpe=pgpe, pgpe_ask=lambda optimizer, popsize: torch.from_numpy(np.stack(optimizer.ask())), pgpe_tell=tell)}


FAKES = {"cma": fake_cma, "evotorch": fake_evotorch, "nevergrad": fake_nevergrad, "pymoo": fake_pymoo}


def use_fake(name, monkeypatch):
    """Put the fake in the library's place; returns the list of optimizers that it makes."""
    optimizers = []
    for module, content in FAKES[name](optimizers).items():
        for parent in [module[:i] for i, letter in enumerate(module) if letter == "."]:
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        monkeypatch.setitem(sys.modules, module, content)
    return optimizers


@pytest.fixture(params=[*FAKES, *(f"real {name}" for name in SMALL_ONES)])
def small_adapter(request, monkeypatch):
    """Makes an adapter with few candidates, on a fake and, where it is installed, on the real library."""
    name = request.param.removeprefix("real ")
    if name == request.param:
        use_fake(name, monkeypatch)
    else:
        pytest.importorskip(name.partition(" ")[0])
    return SMALL_ONES[name]


def play(strategy, problem, number):
    """(masks, fitness) of each round, told already."""
    strategy.start(problem)
    for _ in range(number):
        masks = strategy.ask()
        fitness = problem.evaluator(masks)
        strategy.tell(fitness)
        yield masks, fitness


@pytest.mark.parametrize("shares", [(0.9, 0.5, 0.4), (0.9, 1, 1), (0.98, 0.5, 0.1)])
def test_candidates_keep_budget_and_core_and_the_first_is_magnitude(small_adapter, problem_of, shares):
    problem, seen = problem_of(*shares), 0
    for masks, _ in play(small_adapter(), problem, 5):
        assert seen or masks == problem.magnitude
        assert masks.count().tolist() == [problem.budget] * len(masks)
        assert not (problem.core.words & ~masks.words).any()
        assert not (masks.words & ~(problem.core | problem.open).words).any()
        seen += len(masks)
    assert seen > 20


def test_a_seed_repeats_every_question_and_touches_no_global_generator(small_adapter, problem_of):
    def questions(seed):
        return torch.cat([masks.words for masks, _ in play(small_adapter(), problem_of(seed=seed), 5)])

    before = np.random.get_state()[1:3], torch.random.get_rng_state()
    first = questions(0)
    after = np.random.get_state()[1:3], torch.random.get_rng_state()
    assert np.array_equal(before[0][0], after[0][0])
    assert before[0][1] == after[0][1]
    assert torch.equal(before[1], after[1])
    np.random.rand(7)
    torch.rand(7)
    assert torch.equal(questions(0), first)
    assert not torch.equal(questions(1), first)


def test_a_search_goes_on_from_its_state(small_adapter, problem_of):
    problem, strategy = problem_of(), small_adapter()
    whole = [masks for masks, _ in play(strategy, problem, 6)]
    list(play(strategy, problem, 3))
    state, later = strategy.state(), small_adapter()
    later.start(problem)
    later.restore(state)
    for masks in whole[3:]:
        assert later.ask() == masks
        later.tell(problem.evaluator(masks))


def test_the_run_ends_where_nothing_is_to_choose(small_adapter, problem_of, validation):
    outcome = run(problem_of(small=0), small_adapter(), validation, Limits(50))
    assert (outcome.stopped_by, outcome.evaluations) == ("strategy", 1)


@pytest.mark.parametrize("name", FAKES)
def test_each_candidate_is_told_its_own_fitness(name, problem_of, monkeypatch):
    """Worst is what stands for infinity."""
    optimizers, problem, strategy = use_fake(name, monkeypatch), problem_of(), SMALL_ONES[name]()
    strategy.start(problem)
    strategy.ask()
    strategy.tell(torch.tensor([5.0]))
    strategy.ask()
    strategy.tell(torch.tensor([2.0, 1.0, torch.inf, 4.0, 3.0, 0.5]))
    (optimizer,) = optimizers
    assert [fitness for _, fitness in optimizer.told] == [2.0, 1.0, 1e30, 4.0, 3.0, 0.5]
    assert np.allclose(optimizer.start, strategy.first)
    assert len({scores.tobytes() for scores, _ in optimizer.told}) == 6


@pytest.mark.parametrize(("name", "install"), [
    ("cma", r"optprune-fast\[cma\]"), ("evotorch", r"optprune-fast\[evotorch\]"), ("nevergrad", "nevergrad"),
    ("pymoo", "pymoo")])
def test_a_missing_library_is_an_error_that_says_how_to_get_it(name, install, problem_of, monkeypatch):
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    with pytest.raises(ImportError, match=rf"strategy '{name}': it needs the package {name}\npip install {install}$"):
        strategy_named(name).start(problem_of())


def test_an_import_that_fails_inside_the_library_is_shown_as_it_is(problem_of, monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="No module named 'other'"):
        Cma().start(problem_of())


def test_too_many_weights_for_cma_are_an_error(problem_of, monkeypatch):
    monkeypatch.setattr(cma_adapter, "LIMIT", 100)
    with pytest.raises(ValueError, match="strategy 'cma': at most 100 weights can be open to CMA-ES"):
        Cma().start(problem_of(small=1, pool=1))


@pytest.mark.parametrize(("make", "text"), [
    (lambda: Pymoo("tabu"), "strategy 'pymoo': algorithm must be one of ga, de, pso"),
    (lambda: EvoTorch("tabu"), "strategy 'evotorch': algorithm must be one of pgpe, cem"),
    (lambda: EvoTorch("cem", population=9), "strategy 'evotorch': cem needs a population of at least 10"),
    (lambda: EvoTorch(population=5), "strategy 'evotorch': pgpe needs an even population"),
])
def test_wrong_knobs_are_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_adapters_are_found_by_name_and_import_no_library():
    code = ("import sys; from optprune_fast.search import strategy_named\n"
            f"for name in {list(ADAPTERS)}: assert strategy_named(name).name == name\n"
            f"print([m for m in {list(ADAPTERS)} if m in sys.modules])")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
