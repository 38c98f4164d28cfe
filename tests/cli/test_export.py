"""prune → export → inspect, as text and as JSON."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from optprune_fast.formats.file import read
from optprune_fast.recipe.result import Result

EXPORT = ("export", "out", "my_models:network", "--checkpoint", "weights.safetensors")


@pytest.mark.parametrize("target", ["cpu", "disk"])
def test_a_pruned_model_becomes_a_file_and_is_inspected(pruned, run, target):
    ran = run(*EXPORT, "--target", target, "--json")
    assert ran.code == 0, ran.err
    mask, dense = Result.load("out").mask, load_file("weights.safetensors")
    with read("model.safetensors") as file:
        for name, kept in mask.to_dense().items():
            assert torch.equal(file[name].to_dense(), dense[name].masked_fill(~kept[0], 0))
    assert ran.json["target"] == target
    assert sum(layer["kept"] for layer in ran.json["layers"]) == int(mask.count())
    assert run("inspect", "model.safetensors", "--json").json == ran.json


def test_the_table_shows_layers_and_shares(pruned, run):
    ran = run(*EXPORT, "--out", "small.safetensors", "--format", "bitmask")
    shown = run("inspect", "small.safetensors")
    assert shown.out == ran.out
    assert all(text in ran.out for text in ("bitmask", "16×12", "everything else", "of the bound", "small.safetensors"))


def test_losses_of_another_layout_are_told(pruned, run):
    state = load_file("weights.safetensors")
    assert run(*EXPORT, "--format", "sparse-bitmask", "--json").json["lost_zeros"] == 0
    layers = {name.replace("weight", "bitmask") for name in state if "weight" in name}
    assert set(load_file("model.safetensors")) >= layers


def test_other_weights_are_refused(pruned, run):
    ran = run("export", "out", "my_models:network")
    assert (ran.code, ran.out) == (1, "")
    assert "the model's weights are not those that the mask was found for" in ran.err
    assert run("export", "out", "my_models:network", "--allow-changed-weights").code == 0


def test_a_damaged_file_is_refused_and_a_result_is_still_inspected(pruned, run, here):
    run(*EXPORT)
    content = bytearray((here / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (here / "model.safetensors").write_bytes(content)
    ran = run("inspect", "model.safetensors")
    assert ran.code == 1
    assert "the file is altered" in ran.err
    assert run("inspect", "out/mask.safetensors", "--json").json["budget"] == 48
