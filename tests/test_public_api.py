"""Every public name that docs/DESIGN.md fixes is there."""

import dataclasses
import inspect

import pytest

import optprune_fast as opf

NOW = ("Evaluator", "MaskLayout", "PackedMasks", "Result", "Sweep", "convert", "doctor", "export", "finetune",
       "from_torch_prune", "gradual", "layer_budgets", "load", "magnitude", "prune", "prune_and_refit", "random_masks",
       "refit", "report", "sweep", "topk_threshold")
MEMBERS = {
    "MaskLayout": ("of", "n", "budget"),
    "PackedMasks": ("from_dense", "to_dense", "words", "count", "to", "cat", "__getitem__", "__len__"),
    "Evaluator": ("__call__", "outputs", "metrics", "moves", "accept", "gradients", "refresh", "explain"),
    "Result": ("save", "load", "apply_to", "as_torch_prune", "kept_small"),
    "Sweep": ("front", "save", "load"),
}
ARGUMENTS = {
    "prune": ("model", "data", "sparsity", "strategy", "small", "pool", "validation", "evaluations", "time_limit",
              "seed"),
    "layer_budgets": ("model", "sparsity", "scheme"),
    "magnitude": ("model", "sparsity", "scope", "pool"),
    "topk_threshold": ("tensors", "k", "pool", "out"),
    "export": ("model", "mask", "path", "format", "target"),
    "convert": ("model", "mask", "prefer"),
    "load": ("path", "model_or_factory", "device", "prefer"),
    "Evaluator": ("model", "data", "objective", "backend"),
}


def test_the_public_names_are_these_and_no_others():
    assert sorted(opf.__all__) == sorted((*NOW, "__version__"))
    assert all(hasattr(opf, name) for name in opf.__all__)


@pytest.mark.parametrize("name", NOW)
def test_a_public_name_explains_itself(name):
    assert inspect.getdoc(getattr(opf, name))


@pytest.mark.parametrize(("owner", "member"), [(owner, member) for owner in MEMBERS for member in MEMBERS[owner]])
def test_a_class_has_the_members_of_the_design(owner, member):
    assert hasattr(getattr(opf, owner), member)


def test_a_result_has_the_fields_of_the_design():
    fields = {field.name for field in dataclasses.fields(opf.Result)}
    assert {"mask", "fitness", "baseline", "history", "core"} <= fields


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_have_the_names_and_the_order_of_the_design(name):
    assert tuple(inspect.signature(getattr(opf, name)).parameters)[: len(ARGUMENTS[name])] == ARGUMENTS[name]
