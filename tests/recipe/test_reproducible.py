"""Under a limit of evaluations a seed gives the same mask, bit for bit, however the machine computes."""

import pytest
import torch

from optprune_fast.recipe.prepared import Prepared
from optprune_fast.recipe.prune import prune
from optprune_fast.runtime import native
from optprune_fast.search import STRATEGIES


def run_of(network, samples, strategy, seed=0, **options):
    result = prune(network, samples, 0.9, strategy, small=0.5, evaluations=300, seed=seed, **options)
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
    return result.mask, result.fitness, result.baseline, history


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_seed_gives_the_same_bits_on_one_thread_and_on_two(network, samples, strategy):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run_of(network, samples, strategy)
        torch.set_num_threads(2)
        assert run_of(network, samples, strategy) == one
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(len(native.isas()) < 2, reason="the compiled module is missing or has one instruction set here")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_seed_gives_the_same_bits_on_every_instruction_set(network, samples, strategy, monkeypatch):
    runs = {}
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        runs[isa] = run_of(network, samples, strategy, backend="native")
    assert all(run == runs["scalar"] for run in runs.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_seed_finds_another_mask(network, samples, strategy):
    first, second = (run_of(network, samples, strategy, seed, validation=samples) for seed in (0, 1))
    assert first[2] == second[2]
    if strategy == "genetic":  # swap search draws nothing before its first kick
        assert first[0] != second[0]
    held_out = run_of(network, samples, strategy, 0), run_of(network, samples, strategy, 1)
    assert held_out[0][2] != held_out[1][2]


def test_no_candidate_of_a_search_goes_to_torch_by_the_rule_that_differs_between_instruction_sets(network, samples):
    ready = Prepared.of(network, samples, [0.5], "auto", None, None, None, 10, None, 0, "cross_entropy", "auto", None)
    for part in (ready.calibration, ready.validation):
        assert part._hand_over.why_not == "hand_over=False"
