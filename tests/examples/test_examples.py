"""Every example runs as a script, stays short, and shows what it says."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = Path(__file__).parents[2] / "examples"
# What each is given here, less than its default, and the claims that its figures must bear out.
RUNS = {
    "own_search": ({"rounds": 40}, lambda figures: figures["own"] > figures["magnitude"] + 0.05),
    "prune_digits": (
        {"evaluations": 1500},
        lambda figures: figures["dense"] > figures["optimized"] > figures["magnitude"] + 0.2,
    ),
    "torch_prune_round_trip": (
        {"evaluations": 800},
        lambda figures: figures["kept"] <= 129 and figures["after"] > figures["before"],
    ),
    "tune_search": (
        {"trials": 4, "evaluations": 150},
        lambda figures: figures["tuned"] <= figures["defaults"] < figures["magnitude"],
    ),
}
NEEDS = {"tune_search": "optuna"}


def test_every_example_has_a_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_example_shows_what_it_says(name, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    arguments, claim = RUNS[name]
    figures = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**arguments)
    assert claim(figures), figures
    printed = capsys.readouterr()
    assert "test accuracy" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize("name", RUNS)
def test_example_is_a_script_of_less_than_sixty_lines(name):
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert len(lines) < 60
    assert lines[-2:] == ['if __name__ == "__main__":', "    main()"]
