"""`sweep`: a mask for each sparsity, saved as it goes, and one that was killed ends like one that was not."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from optprune_fast.recipe.prune import prune
from optprune_fast.recipe.sweep import Sweep, sweep
from optprune_fast.report.write import report
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.search.swaps import SwapSearch
from optprune_fast.search.warm import warm_started

RATES = (0.5, 0.8, 0.9)


@pytest.fixture(scope="module")
def curve(network, samples):
    return sweep(network, samples, RATES, evaluations=150)


def essence(found):
    return [(result.mask, result.fitness, result.evaluations, result.screened, result.gradient_passes,
             [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]) for result in found.results]


def test_every_result_keeps_its_budget_and_the_first_is_that_of_prune(network, samples, curve):
    assert [result.budget for result in curve.results] == [240, 96, 48]
    assert [result.sparsity for result in curve.results] == list(curve.sparsities) == list(RATES)
    assert all(result.fitness <= result.baseline for result in curve.results)
    assert curve.results[0].mask == prune(network, samples, 0.5, evaluations=150).mask


def test_the_progress_bar_names_the_sparsity(network, samples, capsys):
    sweep(network, samples, (0.5, 0.985), strategy="genetic", evaluations=2, progress=True)
    shown = capsys.readouterr().err
    assert "sweep, 50 %" in shown
    assert "sweep, 98.5 %" in shown


def test_a_seed_repeats_and_another_is_another(network, samples, curve):
    assert essence(sweep(network, samples, RATES, evaluations=150)) == essence(curve)
    assert essence(sweep(network, samples, RATES, evaluations=150, seed=1)) != essence(curve)


def test_a_core_is_kept_at_every_sparsity(network, samples):
    found = sweep(network, samples, RATES, small=0.4, pool=0.2, evaluations=60)
    for result in found.results:
        assert int(result.mask.overlap(result.core)) == int(result.core.count()) == result.budget - int(
            0.4 * result.budget)


def test_a_strategy_of_ones_own_starts_anew_at_every_sparsity(network, samples):
    strategy = SwapSearch(pairs=12)
    knobs = dict(vars(strategy))
    first = sweep(network, samples, RATES, strategy=strategy, evaluations=60)
    assert vars(strategy) == knobs
    assert essence(first) == essence(sweep(network, samples, RATES, strategy=strategy, evaluations=60))


def test_an_objective_without_gradients_is_swept_too(network, samples):
    def total(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)

    found = sweep(network, samples, RATES[1:], objective=total, evaluations=60)
    assert [result.strategy for result in found.results] == ["genetic", "genetic"]


def test_the_front_leaves_out_what_a_sparser_result_beats(curve):
    def with_fitness(*fitness):
        return Sweep(RATES, [dataclasses.replace(r, fitness=f) for r, f in zip(curve.results, fitness, strict=True)])

    def front(found):
        return [result.sparsity for result in found.front]

    assert front(with_fitness(0.1, 0.2, 0.3)) == [0.5, 0.8, 0.9]
    assert front(with_fitness(0.1, 0.4, 0.3)) == [0.5, 0.9]
    assert front(with_fitness(0.3, 0.2, 0.3)) == [0.8, 0.9]
    assert front(with_fitness(0.3, 0.3, 0.3)) == [0.9]


# ---- files


def test_a_saved_sweep_comes_back_and_can_be_reported(curve, tmp_path):
    back = Sweep.load(curve.save(tmp_path / "curve"))
    assert back.sparsities == curve.sparsities
    assert back.results == curve.results
    page = report(back.results, tmp_path / "page")
    assert {run["sparsity"] for run in json.loads(page.with_suffix(".json").read_text())["runs"]} == set(RATES)


class Killed(Exception):
    pass


def test_a_sweep_that_is_killed_has_saved_what_was_done_and_goes_on(network, samples, curve, tmp_path, monkeypatch):
    ask, left = SwapSearch.ask, 3

    def dies(strategy):
        nonlocal left
        if strategy.problem.budget == 96:
            left -= 1
            if left == 0:
                raise Killed
        return ask(strategy)

    monkeypatch.setattr(SwapSearch, "ask", dies)
    with pytest.raises(Killed):
        sweep(network, samples, RATES, evaluations=150, folder=tmp_path)
    partial = Sweep.load(tmp_path)
    assert partial.sparsities == RATES
    assert essence(partial) == essence(curve)[:1]
    done = []
    monkeypatch.setattr(SwapSearch, "ask", lambda strategy: done.append(strategy.problem.budget) or ask(strategy))
    assert essence(sweep(network, samples, RATES, evaluations=150, folder=tmp_path)) == essence(curve)
    assert set(done) == {96, 48}
    assert essence(Sweep.load(tmp_path)) == essence(curve)


KILLED = """
    import sys, torch, optprune_fast as opf
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    x = torch.randn(400, 20)
    import optprune_fast.search.journal as journal
    journal.Journal.due = property(lambda self: True)
    print("ready", flush=True)
    found = opf.sweep(net, (x, (x @ torch.randn(20, 4)).argmax(1)), (0.5, 0.8, 0.9), evaluations=1000,
                      folder=sys.argv[1] if len(sys.argv) > 1 else None)
    print([(r.mask.words.flatten().tolist(), r.fitness, r.evaluations) for r in found.results], flush=True)
"""


def test_kills_at_random_moments_change_no_bit(tmp_path):
    code, environment = textwrap.dedent(KILLED), {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    command, moment = [sys.executable, "-c", code, str(tmp_path / "f")], torch.Generator().manual_seed(0)
    kills = 0
    for _ in range(50):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout.readline() == "ready\n"
        if kills < 2:
            time.sleep(float(torch.rand(1, generator=moment)) * 0.25)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        output = process.communicate()[0]
        if output:
            break
    assert kills == 2
    assert output == whole.stdout.removeprefix("ready\n")


def test_ctrl_c_gives_what_there_is_and_the_same_call_goes_on(network, samples, curve, tmp_path, monkeypatch):
    ask = SwapSearch.ask

    def interrupted(strategy):
        if strategy.problem.budget == 96:
            raise KeyboardInterrupt
        return ask(strategy)

    monkeypatch.setattr(SwapSearch, "ask", interrupted)
    found = sweep(network, samples, RATES, evaluations=150, folder=tmp_path)
    assert [(r.sparsity, r.stopped_by) for r in found.results] == [(0.5, "evaluations"), (0.8, "interrupt")]
    assert Sweep.load(tmp_path).results == found.results
    monkeypatch.setattr(SwapSearch, "ask", ask)
    assert essence(sweep(network, samples, RATES, evaluations=150, folder=tmp_path)) == essence(curve)


def test_ctrl_c_between_two_searches_gives_what_there_is(network, samples, curve, monkeypatch):
    def interrupted(problem, known):
        raise KeyboardInterrupt

    monkeypatch.setattr("optprune_fast.recipe.sweep.warm_started", interrupted)
    assert essence(sweep(network, samples, RATES, evaluations=150)) == essence(curve)[:1]


def test_starts_are_compared_at_the_scale_of_the_search_before(network, samples, monkeypatch):
    asked = []

    def noted(problem, known):
        asked.append(problem.evaluator.logit_scale)
        return warm_started(problem, known)

    monkeypatch.setattr("optprune_fast.recipe.sweep.warm_started", noted)
    found = sweep(network, samples, (0.8, 0.9), evaluations=150, logit_scale=2.5)
    assert asked == [2.5]
    assert [result.logit_scale for result in found.results] == [2.5, 2.5]
    asked.clear()
    found = sweep(network, samples, (0.9, 0.95), evaluations=150)
    assert asked == [found.results[0].logit_scale]
    assert asked[0] > 1.0


# ---- errors


class Untouched:
    def __iter__(self):
        raise AssertionError("the data were read before the arguments were checked")


@pytest.mark.parametrize(("sparsities", "text"), [
    ([], "sweep: there must be at least one sparsity"),
    ([0.5, 0.9, 0.8], r"sweep: sparsities must ascend, each once.*\n  sparsities .*\nsorted\(set\(sparsities\)\)"),
    ([0.5, 0.5], "must ascend, each once"),
    ([0.5, float("nan")], "must ascend, each once"),
    ([-0.1, 0.5], r"sparsity must lie in \[0, 1\)"),
    ([0.5, 1.0], r"sparsity must lie in \[0, 1\)"),
    ([0.5, 0.9999], "no weight of 480 would be kept"),
])
def test_wrong_sparsities_are_errors_before_the_data_are_read(network, sparsities, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        sweep(network, Untouched(), sparsities, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_one_number_is_not_a_sequence(network):
    with pytest.raises(TypeError, match=r"must be a sequence\n  sparsities  0.9\nopf.prune works for one sparsity"):
        sweep(network, Untouched(), 0.9)


def test_the_folder_of_another_sweep_is_refused_and_left_alone(network, samples, curve, tmp_path):
    sweep(network, samples, RATES, evaluations=20, folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds a sweep over other sparsities\n.*\n.*0.8.*\n.*0.7"):
        sweep(network, samples, (0.5, 0.7), evaluations=20, folder=tmp_path)
    with pytest.raises(ValueError, match=r"journal of another run: .*seed.* differ"):
        sweep(network, samples, RATES, evaluations=20, folder=tmp_path, seed=5)
    with pytest.raises(ValueError, match="holds a sweep over other sparsities"):
        Sweep((0.5,), curve.results[:1]).save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_results_without_journals_are_not_replaced_by_a_sweep(network, samples, curve, tmp_path):
    curve.save(tmp_path)
    with pytest.raises(ValueError, match="holds a result without the journal of its search"):
        sweep(network, samples, RATES, evaluations=20, folder=tmp_path)
    assert Sweep.load(tmp_path).results == curve.results


def test_a_folder_that_is_a_file_or_holds_no_sweep_or_a_damaged_one_is_said(network, samples, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="folder must be a folder"):
        sweep(network, samples, folder=tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="there is no sweep in this folder"):
        Sweep.load(tmp_path)
    for text in ("{", "{}", '{"format": "optprune_fast.sweep", "version": 2, "sparsities": []}'):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(IntegrityError, match="the list of sparsities cannot be read"):
            Sweep.load(tmp_path)
