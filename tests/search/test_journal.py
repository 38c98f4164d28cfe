"""A journal: a run that was stopped anywhere goes on from it and ends bit for bit like one that was not."""

import json
import math

import pytest
import torch

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.search import STRATEGIES, strategy_named
from optprune_fast.search.chain import Chain
from optprune_fast.search.encoding import decode, encode
from optprune_fast.search.journal import Journal
from optprune_fast.search.run import Limits, run
from scripts.kill_runs import Server

LIMIT = 120


class Stop(Exception):
    pass


class StopsAt(Journal):
    """Writes before every question, and ends the process, so to speak, after some writings."""

    left = 10**9

    def write(self, state):
        super().write(state)
        self.left -= 1
        if self.left == 0:
            raise Stop


def journal(path, left=10**9, **identity):
    stopping = StopsAt(path, identity, every=0.0)
    stopping.left = left
    return stopping


# ---- the run goes on


@pytest.mark.parametrize("name", [*STRATEGIES, "chain"])
def test_a_run_stopped_again_and_again_ends_like_one_that_was_not(small_one, problem_of, validation, tmp_path, name):
    def made():
        chain = Chain([(small_one("straight_through"), 0.1), (small_one("differential_evolution"), 0.6),
                       (small_one("annealing"), 1.0)])
        return problem_of(small=1, pool=1), chain if name == "chain" else small_one(name)

    whole = run(*made(), validation, Limits(LIMIT))
    path, runs = tmp_path / "journal", 0
    while True:
        runs += 1
        try:
            outcome = run(*made(), validation, Limits(LIMIT), journal=journal(path, left=3))
            break
        except Stop:
            pass
    assert runs > 1
    assert outcome.mask == whole.mask
    assert (outcome.evaluations, outcome.validation, outcome.best) == (whole.evaluations, whole.validation, whole.best)

    def without_seconds(history):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in history]

    assert without_seconds(outcome.history) == without_seconds(whole.history)


def test_a_finished_run_is_read_and_not_run_again(problem_of, validation, tmp_path):
    first = run(problem_of(), strategy_named("swap"), validation, Limits(100), journal=journal(tmp_path / "j"))

    class Untouchable:
        def __call__(self, masks):
            raise AssertionError

    again = run(problem_of(), strategy_named("swap"), Untouchable(), Limits(100), journal=journal(tmp_path / "j"))
    assert (again.mask, again.history, again.seconds) == (first.mask, first.history, first.seconds)


def test_seconds_of_earlier_runs_count(problem_of, validation, tmp_path):
    with pytest.raises(Stop):
        run(problem_of(), strategy_named("swap"), validation, Limits(seconds=50.0), journal=journal(tmp_path / "j", 4),
            clock=iter(range(1000)).__next__)
    later = run(problem_of(), strategy_named("swap"), validation, Limits(seconds=50.0), journal=journal(tmp_path / "j"),
                clock=iter(range(5000, 6000)).__next__)
    assert later.stopped_by == "time"
    assert 50 <= later.seconds < 60


def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    with Server() as server:
        whole = server.search("swap", 0)
        found, kills = server.killed("swap", 0, tmp_path / "journal", 20, torch.Generator().manual_seed(0))
    assert kills >= 10
    assert found == whole != ""


# ---- refusals


def test_a_journal_of_another_run_is_refused_and_left_alone(problem_of, validation, tmp_path):
    run(problem_of(), strategy_named("swap"), validation, Limits(20), journal=journal(tmp_path / "j", seed=1, pool=2))
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(ValueError, match="journal of another run: seed differ"):
        run(problem_of(), strategy_named("swap"), validation, Limits(20),
            journal=journal(tmp_path / "j", seed=3, pool=2))
    assert (tmp_path / "j").read_bytes() == before


def test_an_altered_journal_is_refused(problem_of, validation, tmp_path):
    run(problem_of(), strategy_named("swap"), validation, Limits(20), journal=journal(tmp_path / "j"))
    content = bytearray((tmp_path / "j").read_bytes())
    content[-5] ^= 1
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(IntegrityError, match="altered"):
        run(problem_of(), strategy_named("swap"), validation, Limits(20), journal=journal(tmp_path / "j"))


def test_a_folder_that_does_not_exist_is_said_before_any_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="its folder does not exist"):
        Journal.at(tmp_path / "no" / "j", {})


def test_what_a_journal_cannot_hold_is_named():
    with pytest.raises(TypeError, match=r"state\.best\.1 is a set, which a journal cannot hold"):
        encode({"best": [1, {2}]}, {})


# ---- encoding


def test_every_kind_of_value_comes_back_bit_for_bit():
    layout = MaskLayout.from_shapes({"w": (3, 70)})
    random = torch.Generator().manual_seed(5)
    torch.rand(7, generator=random)
    value = {"n": None, "yes": True, "i": -3, "f": 0.1, "inf": math.inf, "t": "x", "list": [1, (2, "a")], 4: {},
             "tensor": torch.tensor([0.1, -0.0, math.nan]), "masks": PackedMasks.full(layout), "random": random}
    tensors = {}
    back = decode(json.loads(json.dumps(encode(value, tensors))), tensors, layout)
    assert list(back) == list(value)
    expected = torch.rand(3, generator=random)
    assert torch.equal(torch.rand(3, generator=back.pop("random")), expected)
    assert back.pop("masks") == value["masks"]
    found = back.pop("tensor")
    assert torch.equal(found.view(torch.int32), value["tensor"].view(torch.int32))
    assert back == {k: v for k, v in value.items() if k not in ("random", "masks", "tensor")}
