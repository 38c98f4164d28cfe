"""Work that is avoided: duplicates, what a child shares with its parent, differences. Fitness stays what it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from optprune_fast.engine.compiled import CompiledForward
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.families import distinct, find_families, flips
from optprune_fast.masks.operators import candidate_seeds, random_masks, swap
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, LeNet5, ResNet20, TinyTransformer
from optprune_fast.runtime import native

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
NETS = {
    "mlp": (lambda: MLP([70, 60, 30, 5]), (70,)),
    "lenet5": (lambda: LeNet5(1, 28), (1, 28, 28)),
    "resnet20": (lambda: ResNet20(3, 4, width=2), (3, 8, 8)),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
}


def network(name: str, samples: int = 37) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(2)
    model = NETS[name][0]().eval()
    inputs = torch.randn(samples, *NETS[name][1])
    return model, (inputs, torch.randint(model(inputs[:1]).shape[1], (samples,)))


def children(parent: PackedMasks, layer: str, count: int, flips: int) -> PackedMasks:
    """Masks that differ from the parent, and from one another, in one layer only."""
    weights = parent.layout[layer].weights
    moves = [weights.start + torch.randperm(weights.stop - weights.start)[:flips] for _ in range(count)]
    return swap(parent, torch.stack(moves))


def family(name: str, ev: Evaluator) -> PackedMasks:
    """A parent; children by their last and by a middle layer; one mask that is related to nobody."""
    parent, other = random_masks(ev.layout, ev.layout.n // 3, candidate_seeds(5, 0, 2))
    layers = [layer.name for layer in ev.layout]
    return PackedMasks.cat([children(parent, layers[-1], 5, 7), other, parent,
                            children(parent, layers[-2], 4, 3)])


@pytest.fixture
def calls(monkeypatch) -> dict[str, list[int]]:
    """How many candidates and how many moves each call into the engine had."""
    seen: dict[str, list[int]] = {"sums": [], "move_sums": []}
    for name, place in (("sums", 0), ("move_sums", 1)):
        plain = getattr(CompiledForward, f"_piece_{name}")

        def spy(self, *args, name=name, place=place, plain=plain, **more):
            seen[name].append(len(args[place]))
            return plain(self, *args, **more)

        monkeypatch.setattr(CompiledForward, f"_piece_{name}", spy)
    return seen


@pytest.mark.parametrize("name", NETS)
def test_children_have_the_bits_of_masks_on_their_own(name: str, calls, monkeypatch) -> None:
    model, data = network(name)
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        related, alone = Evaluator(model, data, backend="native"), Evaluator(model, data, backend="native", reuse=())
        masks = family(name, related)
        wanted = alone(masks)
        assert not calls["move_sums"]
        found = related(masks)
        assert sum(calls["move_sums"]) >= 6
        assert torch.equal(found, wanted)
        calls["move_sums"].clear()


def test_parents_from_outside(calls) -> None:
    model, data = network("mlp")
    ev, alone = Evaluator(model, data, backend="native"), Evaluator(model, data, backend="native", reuse=())
    parents = random_masks(ev.layout, ev.layout.n // 3, candidate_seeds(5, 0, 2))
    masks = PackedMasks.cat([children(parents[one], "layers.2.weight", count, 2) for one, count in ((1, 4), (0, 3))])
    assert torch.equal(ev(masks, parents), alone(masks))
    assert calls["move_sums"] == [3, 4]
    with pytest.raises(ValueError, match="masks of another layout"):
        ev(masks, random_masks(Evaluator(*network("lenet5")).layout, 9, [0]))


def test_differences_from_a_parent_agree_within_rounding(calls) -> None:
    """Each child flips one weight in a hundred, so no row of the first layer is its parent's."""
    model, data = network("mlp")
    delta, alone = (Evaluator(model, data, backend="native", reuse=reuse) for reuse in (("delta",), ()))
    parent = random_masks(delta.layout, delta.layout.n // 2, [3])
    moves = torch.stack([torch.randperm(delta.layout.n)[:delta.layout.n // 100] for _ in range(6)])
    masks = swap(parent, moves)
    torch.testing.assert_close(delta(masks), alone(masks), rtol=1e-5, atol=1e-6)
    assert sum(calls["move_sums"]) == 6


def test_duplicates_are_evaluated_once(calls) -> None:
    model, data = network("lenet5")
    once, each = (Evaluator(model, data, backend="native", reuse=reuse) for reuse in (("duplicates",), ()))
    masks = random_masks(once.layout, 500, candidate_seeds(1, 0, 3))
    masks = masks[torch.tensor([2, 0, 1, 0, 0, 2])]
    assert torch.equal(once(masks), each(masks))
    assert calls["sums"] == [3, 6]


def test_masks_are_told_apart_whose_sums_are_equal() -> None:
    one, two = ((n * 0x5851F42D4C957F2D) | 1 for n in (1, 2))
    signed = (two % 2**64 + 2**63) % 2**64 - 2**63
    words = torch.tensor([[signed, 0], [0, one], [signed, 0]])
    found, place = distinct(words)
    assert len(found) == 2
    assert place is not None
    assert torch.equal(found[place], words)


def test_flips_lead_from_the_parent_to_each_child() -> None:
    model, data = network("lenet5")
    ev = Evaluator(model, data, backend="native")
    masks = family("lenet5", ev)
    families, alone = find_families(ev._compiled.program(ev.batches.kinds[0].example).program.layers, masks.words, None)
    assert alone.tolist() == [5]
    for one in families:
        for places, moves in flips(ev.layout, one, masks.words):
            assert torch.equal(swap(PackedMasks(ev.layout, one.parent), moves).words, masks.words[places])


@pytest.mark.parametrize("P", [0, 1, 2, 9])
def test_unrelated_masks_have_no_family(P: int) -> None:
    model, data = network("mlp")
    ev = Evaluator(model, data, backend="native")
    masks = random_masks(ev.layout, ev.layout.n // 5, candidate_seeds(4, 0, P))
    families, alone = find_families(ev._compiled.program(ev.batches.kinds[0].example).program.layers, masks.words, None)
    assert not families
    assert sorted(alone.tolist()) == list(range(P))
    assert ev(masks).shape == (P,)


@pytest.mark.parametrize("reuse", ["prefix", ("prefix", "everything")])
def test_reuse_is_known_by_name(reuse) -> None:
    model, data = network("mlp")
    with pytest.raises(ValueError, match="reuse is a collection of 'duplicates', 'prefix', 'delta'"):
        Evaluator(model, data, reuse=reuse)
