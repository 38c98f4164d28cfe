"""`optprune-fast doctor`, and the check of every backend."""

from __future__ import annotations

import pytest

from optprune_fast.cli import doctor as command
from optprune_fast.cli.verify import Check, verify
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.runtime.dispatch import BACKENDS
from optprune_fast.runtime.doctor import doctor


def test_doctor_prints_the_report(run):
    ran = run("doctor")
    assert ran.code == 0
    assert all(name in ran.out for name in BACKENDS)


def test_doctor_as_json_with_checks(run):
    report = run("doctor", "--verify", "--json").json
    able = [b["name"] for b in report["backends"] if b["runs"]]
    assert [c["backend"] for c in report["checks"]] == able
    assert report["checks"][-1]["verdict"] == "agrees"


def test_every_able_backend_agrees():
    assert {c.verdict for c in verify(doctor())} == {"agrees"}


@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_a_backend_that_errs_is_found(monkeypatch, run, wrong):
    honest = Evaluator.__call__

    def dishonest(self, masks):
        return honest(self, masks) + (wrong if self.backend == "numba" else 0)

    monkeypatch.setattr(Evaluator, "__call__", dishonest)
    verdicts = {c.backend: c.verdict for c in verify(doctor())}
    assert verdicts.pop("numba") == "wrong"
    assert set(verdicts.values()) == {"agrees"}


def test_a_wrong_backend_is_an_error_of_the_command(monkeypatch, run):
    monkeypatch.setattr(command, "self_check", lambda report: [Check("torch", "cpu", "wrong", 1.0, 1e-6)])
    ran = run("doctor", "--verify")
    assert ran.code == 1
    assert "wrong" in ran.out
