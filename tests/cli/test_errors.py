"""Errors of the user: their text on stderr, no traceback, exit code 1; 2 for what is not built yet."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from optprune_fast import cli

NET = "my_models:network"
CASES = [
    ((NET, "--data", "nowhere.npz"), "there is no such file or folder"),
    ((NET, "--data", "digitz"), "neither a built-in name"),
    ((NET, "--data", "data.npz", "--sparsity", "95"), r"sparsity must lie in \[0, 1\)"),
    ((NET, "--data", "data.npz", "--strategy", "magic"), "one of auto, annealing, .*, swap"),
    ((NET, "--data", "data.npz", "--backend", "magic"), "backend must be one of"),
    ((NET, "--data", "data.npz", "--precision", "half"), "precision must be one of fp32, tf32x3, tf32, fp16, bf16"),
    ((NET, "--data", "data.npz", "--precision", "tf32", "--backend", "torch"), "torch: has no choice of precision"),
    ((NET, "--data", "data.npz", "--small", "2"), r"small must lie in \[0, 1\]"),
    ((NET, "--data", "data.npz", "--evaluations", "0"), "evaluations must be at least 1"),
    ((NET, "--data", "data.npz", "--out", "data.npz"), "--out must be a folder"),
    (("my_models", "--data", "data.npz"), "must be module:function"),
    (("nowhere_at_all:f", "--data", "data.npz"), "there is no such module"),
    (("my_models:NAME", "--data", "data.npz"), "no such function\n.*\n.*\nit has: .*network"),
    (("my_models:number", "--data", "data.npz"), "must return an nn.Module"),
    (("my_models:wider", "--data", "data.npz"), "cannot take the samples of this data"),
    (("my_models:narrow", "--data", "data.npz"), "must give one output per class"),
    ((NET, "--data", "data.npz", "--checkpoint", "nowhere.pt"), "there is no such file"),
    ((NET, "--data", "data.npz", "--checkpoint", "data.npz"), r"must end in \.safetensors, \.pt or \.pth"),
    (("my_models:wider", "--data", "data.npz", "--checkpoint", "weights.pt"),
     r"does not fit the model: .*\n.*size mismatch for layers\.0\.weight"),
]


@pytest.mark.parametrize(("arguments", "text"), CASES, ids=[text[:30] for _, text in CASES])
def test_prune_says_what_is_wrong(here, run, arguments, text):
    ran = run("prune", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert re.search(text, ran.err), ran.err
    assert "Traceback" not in ran.err


def test_missing_and_unexpected_tensors_are_named(here, run):
    state = torch.load("weights.pt", weights_only=True)
    state["layers.9.bias"] = state.pop("layers.1.bias")
    torch.save(state, "odd.pt")
    ran = run("prune", NET, "--data", "data.npz", "--checkpoint", "odd.pt")
    assert ran.code == 1
    assert "missing  ['layers.1.bias']" in ran.err
    assert "unexpected  ['layers.9.bias']" in ran.err


class Unsafe:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_checkpoint_that_could_run_code_is_refused(here, run, capfd):
    torch.save({"a": Unsafe()}, "unsafe.pt")
    ran = run("prune", NET, "--data", "data.npz", "--checkpoint", "unsafe.pt")
    assert ran.code == 1
    assert "cannot be read with weights_only=True" in ran.err
    assert "this must not run" not in ran.out + capfd.readouterr().out


def test_damaged_checkpoints_are_refused(here, run):
    for name, text in (("cut.safetensors", "not a whole safetensors file"), ("cut.pt", "cannot be read")):
        whole = (here / name.replace("cut", "weights")).read_bytes()
        (here / name).write_bytes(whole[: len(whole) // 2])
        ran = run("prune", NET, "--data", "data.npz", "--checkpoint", name)
        assert ran.code == 1
        assert text in ran.err


def test_a_whole_pickled_object_is_no_state_dict(here, run):
    torch.save([1, 2], "list.pt")
    ran = run("prune", NET, "--data", "data.npz", "--checkpoint", "list.pt")
    assert "must be a state_dict: names and tensors alone" in ran.err


def test_a_missing_import_inside_the_users_module_keeps_its_traceback(here, run):
    (here / "my_models.py").write_text("import nowhere_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        run("prune", NET, "--data", "data.npz")


@pytest.mark.parametrize("command", [("inspect",), ("eval", NET, "--data", "data.npz")])
def test_a_result_that_is_not_there_is_named(here, run, command):
    ran = run(command[0], "nowhere", *command[1:])
    assert ran.code == 1
    assert "nowhere" in ran.err


def test_a_data_package_that_is_missing_is_named(here, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    ran = run("demo", "--out", "demo")
    assert ran.code == 1
    assert "optprune-fast[data]" in ran.err


def test_without_its_packages_the_command_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r'typer not installed; pip install "optprune-fast\[cli\]"'):
        cli.main()


def test_the_module_runs_like_the_command():
    ran = subprocess.run([sys.executable, "-m", "optprune_fast", "--help"], capture_output=True, text=True, check=True)
    assert all(name in ran.stdout for name in ("demo", "prune", "eval", "inspect", "doctor", "export", "bench"))
