"""A result is saved to the last bit, and does to a model exactly what its mask says."""

import copy
import dataclasses
import math

import pytest
import torch

from optprune_fast.masks.torch_prune import from_torch_prune
from optprune_fast.models import MLP
from optprune_fast.recipe.prune import prune
from optprune_fast.recipe.result import FILE, Result, weights_digest
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.runtime.files import load_tensors, save_tensors


def bits(tensor):
    return tensor.detach().view(torch.int32)


@pytest.fixture
def model(network):
    return copy.deepcopy(network)


# ---- the numbers


def test_budget_and_kept_small_count_weights(result):
    kept, large = result.mask.flat()[0], result.magnitude.flat()[0]
    assert result.budget == int(kept.sum()) == 48
    assert result.kept_small == int((kept & ~large).sum()) > 0
    assert dataclasses.replace(result, mask=result.magnitude).kept_small == 0


# ---- on disk


def test_what_is_loaded_equals_what_was_saved(result, tmp_path):
    path = result.save(tmp_path / "runs" / "first")
    assert path == tmp_path / "runs" / "first" / FILE
    assert [file.name for file in path.parent.iterdir()] == [FILE]
    for place in (path, path.parent, str(path.parent)):
        assert Result.load(place) == result


@pytest.mark.parametrize("fitness", [math.inf, 1e-300, 0.1 + 0.2])
def test_every_float_survives(result, tmp_path, fitness):
    changed = dataclasses.replace(result, fitness=fitness, baseline=fitness, history=[])
    changed.save(tmp_path)
    assert Result.load(tmp_path) == changed
    assert Result.load(tmp_path) != result


def test_saving_again_replaces_the_file_and_gives_the_same_bytes(result, tmp_path):
    dataclasses.replace(result, seed=9).save(tmp_path)
    first = result.save(tmp_path).read_bytes()
    assert result.save(tmp_path).read_bytes() == first
    assert Result.load(tmp_path) == result


def test_any_flipped_bit_is_found(result, tmp_path):
    path = result.save(tmp_path)
    good = path.read_bytes()
    # Every bit of every 23rd byte, and of both ends: length, header, digest and tensors are all met.
    places = sorted({*range(0, len(good), 23), *range(24), *range(len(good) - 24, len(good))})
    for place in places:
        for bit in range(8):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            path.write_bytes(bad)
            with pytest.raises(IntegrityError):
                Result.load(path)
    path.write_bytes(good)
    assert Result.load(path) == result


def test_a_file_cut_short_or_grown_is_found(result, tmp_path):
    path = result.save(tmp_path)
    good = path.read_bytes()
    for content in (*(good[:length] for length in (0, 1, 7, 8, 9, 100, *range(200, len(good), 211), len(good) - 1)),
                    good + b"\0", good + good):
        path.write_bytes(content)
        with pytest.raises(IntegrityError):
            Result.load(path)


@pytest.mark.parametrize(("change", "text"), [
    (lambda tensors, metadata: metadata.pop("layout"), "does not hold a result"),
    (lambda tensors, metadata: tensors.pop("core"), "does not hold a result"),
    (lambda tensors, metadata: metadata.update(result="{}"), "does not hold a result"),
    (lambda tensors, metadata: tensors.update(mask=tensors["mask"] * 0), "the budget or the bit order"),
    (lambda tensors, metadata: tensors.update(mask=tensors["mask"] | -1), "bits without a weight must be zero"),
    (lambda tensors, metadata: metadata.update(bit_order="big"), "the budget or the bit order"),
])
def test_a_sound_file_with_contents_that_contradict_is_refused(result, tmp_path, change, text):
    path = result.save(tmp_path)
    tensors, metadata = load_tensors(path, kind="mask")
    metadata = {name: value for name, value in metadata.items() if name not in ("format", "sha256", "version")}
    change(tensors, metadata)
    save_tensors(path, tensors, metadata, kind="mask")
    with pytest.raises(IntegrityError, match=text):
        Result.load(path)


def test_a_missing_file_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path / "nothing")


# ---- applied


def test_apply_zeros_exactly_the_dropped_weights_in_place(result, network, model):
    places = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    assert result.apply_to(model) is model
    dense = result.mask.to_dense()
    negative = 0
    for name, now in model.named_parameters():
        before = network.get_parameter(name)
        kept = dense[name][0] if name in dense else torch.ones_like(now, dtype=torch.bool)
        assert now.data_ptr() == places[name]
        # Bits of +0.0 are all zero; those of -0.0 are not.
        assert torch.equal(bits(now), torch.where(kept, bits(before), 0))
        negative += int((before[~kept] < 0).sum())
    assert negative > 0


def test_the_applied_model_has_the_fitness_that_the_result_states(network, samples, model):
    result = prune(network, samples, 0.9, validation=samples, evaluations=100)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(result.apply_to(model)(samples[0]), samples[1])
    assert float(loss) == pytest.approx(result.fitness, rel=1e-5)


@pytest.mark.parametrize("use", [Result.apply_to, Result.as_torch_prune])
def test_changed_weights_are_an_error_unless_they_are_meant(result, model, use):
    with torch.no_grad():
        model.layers[0].weight[0, 0] += 1
    held = bits(model.layers[0].weight).clone()
    with pytest.raises(ValueError, match=r"not those that the mask was found for(\n.*){3}allow_changed_weights=True"):
        use(result, model)
    assert torch.equal(bits(model.layers[0].weight), held)
    use(result, model, allow_changed_weights=True)
    assert int((model.layers[0].weight != 0).sum()) == int(result.mask.to_dense()["layers.0.weight"].sum())


def test_a_bias_may_change(result, model):
    with torch.no_grad():
        model.layers[0].bias += 1
    result.apply_to(model)


@pytest.mark.parametrize("use", [Result.apply_to, Result.as_torch_prune])
@pytest.mark.parametrize("allowed", [False, True])
def test_another_layout_is_an_error_whatever_is_allowed(result, use, allowed):
    with pytest.raises(ValueError, match="the model does not have this layout's parameters"):
        use(result, MLP([16, 25, 4]), allow_changed_weights=allowed)


def test_the_digest_depends_on_names_shapes_and_values():
    w = torch.arange(6.0)
    digests = {weights_digest(weights) for weights in (
        {"a": w}, {"b": w}, {"a": w.reshape(2, 3)}, {"a": w.double()}, {"a": w + 1e-6}, {"a": -w}, {})}
    assert len(digests) == 7


# ---- torch.nn.utils.prune


def test_the_way_through_torch_prune_and_back_keeps_the_mask(result, network, model):
    assert result.as_torch_prune(model) is model
    names = dict(model.named_parameters())
    assert {"layers.0.weight_orig", "layers.1.weight_orig"} <= names.keys()
    assert torch.equal(bits(names["layers.0.weight_orig"]), bits(network.layers[0].weight))
    assert from_torch_prune(model) == result.mask
    applied = result.apply_to(copy.deepcopy(network))
    for layer, plain in zip(model.layers, applied.layers, strict=True):
        torch.nn.utils.prune.remove(layer, "weight")
        assert torch.equal(layer.weight, plain.weight)
    assert dict(model.named_parameters()).keys() == dict(network.named_parameters()).keys()


def test_a_model_that_torch_has_not_pruned_is_an_error(network):
    with pytest.raises(ValueError, match=r"no parameter is pruned by torch\.nn\.utils\.prune"):
        from_torch_prune(network)
