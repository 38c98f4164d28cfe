"""What population strategies on latent scores learn from what they are told."""

import pytest
import torch

from optprune_fast.masks.packed import PackedMasks
from optprune_fast.search.cross_entropy import CrossEntropy
from optprune_fast.search.latent import chosen, masks_of

NAMES = ("cross_entropy", "differential_evolution", "particle_swarm")


def play(strategy, problem, number, fitness_of=None):
    """(masks, fitness) of each round, told already."""
    strategy.start(problem)
    for _ in range(number):
        masks = strategy.ask()
        fitness = (fitness_of or problem.evaluator)(masks)
        strategy.tell(fitness)
        yield masks, fitness


@pytest.mark.parametrize("name", NAMES)
def test_state_is_plain(small_one, problem_of, name):
    """Whatever writes a run down knows these kinds; the problem it has already."""
    strategy = small_one(name)
    list(play(strategy, problem_of(), 3))
    plain = (torch.Tensor, PackedMasks, torch.Generator, int, float, str)
    state = {key: value for key, value in vars(strategy).items() if key not in strategy.derived}
    assert [key for key, value in state.items() if not isinstance(value, plain)] == []


@pytest.mark.parametrize("name", NAMES)
def test_global_generators_play_no_part(small_one, problem_of, name):
    before = torch.random.get_rng_state()
    first = [masks.words for masks, _ in play(small_one(name), problem_of(), 4)]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    second = [masks.words for masks, _ in play(small_one(name), problem_of(), 4)]
    assert torch.equal(torch.cat(first), torch.cat(second))


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_what_fitness_asks_for(small_one, problem_of, name):
    """Fitness counts kept weights of a hidden mask: the later candidates keep more of them than the first."""
    problem = problem_of(0.9, 1, 0.2)
    hidden = problem.open.indices()[::3].contiguous()
    wanted = PackedMasks.from_indices(problem.layout, hidden)

    def fitness_of(masks):
        return -masks.overlap(wanted).double()

    told = [fitness for _, fitness in play(small_one(name), problem, 60, fitness_of)]
    assert told[-1].mean() < told[0].mean() - 3


def test_a_member_of_differential_evolution_never_gets_worse(small_one, problem_of):
    strategy, problem = small_one("differential_evolution"), problem_of()
    before, gained = None, 0
    for _ in play(strategy, problem, 40):
        if before is not None:
            assert (strategy.fitness <= before).all()
            gained += int((strategy.fitness < before).sum())
        before = strategy.fitness
    assert gained > 8
    assert torch.equal(problem.evaluator(masks_of(problem, strategy.weights, strategy.members)), before)


def test_particles_remember_their_best_mask(small_one, problem_of):
    strategy, problem = small_one("particle_swarm"), problem_of()
    told = torch.stack([fitness for _, fitness in play(strategy, problem, 12)])
    assert torch.equal(strategy.fitness, told.min(0).values)
    best = masks_of(problem, strategy.weights, strategy.best.float())
    assert torch.equal(problem.evaluator(best), strategy.fitness)


def test_the_elite_is_the_best_of_all_generations(small_one, problem_of):
    strategy, problem = small_one("cross_entropy"), problem_of()
    told = torch.cat([fitness for _, fitness in play(strategy, problem, 12)])
    assert torch.equal(strategy.best_fitness, told.sort().values[:2])


def test_probabilities_move_to_those_of_the_elite(problem_of):
    strategy, problem = CrossEntropy(population=10, elite=0.2, rate=0.25), problem_of()
    strategy.start(problem)
    before = strategy.probability.clone()
    strategy.ask()
    masks = chosen(strategy.asked, problem.choices)
    strategy.tell(torch.arange(10.0).flip(0))
    elite = (masks[9].double() + masks[8].double()) / 2
    torch.testing.assert_close(strategy.probability.double(), before.double() + 0.25 * (elite - before), atol=1e-6,
                               rtol=0)
