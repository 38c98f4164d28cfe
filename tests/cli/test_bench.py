"""`optprune-fast bench` on the user's own network and data."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")

ARGUMENTS = ("bench", "my_models:network", "--checkpoint", "weights.safetensors", "--data", "data.npz", "--candidates",
             "3", "--samples", "20", "--rounds", "1", "--threads", "1")


def test_the_table_has_every_rival(here, run):
    ran = run(*ARGUMENTS, "--density", "0.5")
    assert ran.code == 0, ran.err
    for name in ("ours, auto", "loop", "vmap", "sparse CSR", "like EvoTorch", "like EvoX", "times best torch"):
        assert name in ran.out
    assert "network: density 0.5, 3 candidates, 20 samples, 1 thread" in ran.err


def test_json_has_a_row_a_rival_and_density(here, run):
    ran = run(*ARGUMENTS, "--density", "0.5", "--density", "0.2", "--backend", "torch", "--without", "vmap",
              "--without", "like EvoX", "--json")
    assert ran.code == 0, ran.err
    rows = ran.json["rows"]
    assert {row["density"] for row in rows} == {0.5, 0.2}
    assert {row["rival"] for row in rows} == {"ours, torch", "loop", "vmap, chunks", "sparse CSR", "like EvoTorch"}
    assert {row["B"] for row in rows} == {20}
    assert ran.json["machine"]["torch"]


@pytest.mark.parametrize(("arguments", "text"), [
    (("--without", "nobody"), "no such rival or backend"), (("--backend", "magic"), "no such rival or backend"),
    (("--density", "2"), "density must lie in"), (("--candidates", "0"), "must be at least 1")])
def test_bench_says_what_is_wrong(here, run, arguments, text):
    ran = run(*ARGUMENTS, *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert text in ran.err


def test_a_rival_that_cannot_run_the_model_is_an_error_with_its_name(here, run):
    (here / "my_models.py").write_text("""
from torch import nn

class Peeks(nn.Linear):
    def forward(self, x):
        return super().forward(x) if float(self.weight.sum()) < 1e9 else x

def network():
    return Peeks(12, 3)
""")
    ran = run("bench", "my_models:network", *ARGUMENTS[4:], "--backend", "torch")
    assert ran.code == 1
    assert "failed" in ran.err
    assert "--without" in ran.err
