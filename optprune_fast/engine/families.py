"""Candidates that differ little from one another: found, so that they can be evaluated as moves of one of them.

    parent   ■■■■■■ ─▶ ■■■■ ─▶ ■■ ─▶ loss
    child    ■■■■■■ ─▶ ■■□■ ─▶ ■■ ─▶ loss        starts from the parent's first layer, and from three of four rows
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.ops.words import popcount, word_count
from optprune_fast.plan.program import LayerUse

MOST_PARENTS = 16  # asked for children before the rest counts as unrelated
PATIENCE = 2       # parents in a row that have none
FEWEST = 3         # children that pay for their parent
# Of the work of a mask on its own: what starting from a parent may cost. Measured on LeNet-5 and VGG-small, a child of
# 0.4 takes 0.9 to 1.1 of its own time at density 0.1, where rows rerun one by one miss what whole layers share, 0.7 at
# 0.5, and 0.6 at 0.9 on LeNet-5.
WORTH = 0.4
GLANCE = 8         # rows of the first layer: masks that share none of them are not related
MOST_FLIPS = 1 << 21


@dataclass(frozen=True)
class Family:
    """children: int64 [C], places in the population; the parent, if it is a candidate, is one of them, without a flip.

    parent:    int64 [1, W]
    """

    parent: Tensor
    children: Tensor


def distinct(words: Tensor) -> tuple[Tensor, Tensor | None]:
    """(int64 [U, W], int64 [P]): each mask once, and which of them a candidate is; None if no two are equal."""
    numbers = torch.arange(1, words.shape[1] + 1, device=words.device)
    numbers *= 0x5851F42D4C957F2D  # spread over all bits, as sums must be
    sums = (words * (numbers | 1)).sum(1)
    if len(sums.unique()) == len(words):  # unequal sums: unequal masks
        return words, None
    each, place = torch.unique(words, dim=0, return_inverse=True)
    return each, place


def find_families(layers: Sequence[LayerUse], words: Tensor, parents: Tensor | None, *,
                  delta: bool = False) -> tuple[list[Family], Tensor]:
    """Families, and int64 [A]: the candidates that belong to none.

    layers:   of the program, in the order in which they run
    words:    int64 [P, W], each row another mask
    parents:  int64 [Q, W]: masks that candidates may come from; None looks for them among the candidates
    delta:    a child's flips are added to its parent's sums, rather than rows computed anew
    """
    pruned = [layer for layer in layers if layer.first_word >= 0]
    alone, found, fruitless = torch.arange(len(words)), [], 0
    for number in range(MOST_PARENTS if parents is None else len(parents)):
        if len(alone) < FEWEST or fruitless == PATIENCE:
            break
        parent = words[alone[:1]] if parents is None else parents[number:number + 1]
        near = _near(pruned, words, alone, parent, delta)
        if int(near.sum()) >= FEWEST:
            found.append(Family(parent, alone[near]))
            alone, fruitless = alone[~near], 0
        else:
            # A candidate that nobody is near to waits at the end; a parent from outside is no candidate.
            alone, fruitless = (alone.roll(-1), fruitless + 1) if parents is None else (alone, 0)
    return found, alone


def flips(layout: MaskLayout, family: Family, words: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(int64 [c], int64 [c, F]): some of the children at a time, and their flips of the parent, -1 fills."""
    differ = words[family.children] ^ family.parent
    child, word = differ.nonzero(as_tuple=True)
    bits = (differ[child, word, None] >> torch.arange(64)) & 1
    at, bit = bits.nonzero(as_tuple=True)
    child, index = child[at], _first_weights(layout)[word[at]] + bit
    count = torch.bincount(child, minlength=len(differ))
    start = count.cumsum(0) - count
    moves = torch.full((len(differ), max(1, int(count.max()))), -1)
    moves[child, torch.arange(len(child)) - start[child]] = index
    some = max(1, MOST_FLIPS // moves.shape[1])
    yield from zip(family.children.split(some), moves.split(some), strict=True)


def _first_weights(layout: MaskLayout) -> Tensor:
    """int64 [W]: the flat index of the weight that is bit 0 of each word."""
    parts = [(layer.weights.start + layer.columns * torch.arange(layer.rows)[:, None]
              + 64 * torch.arange(layer.row_words)).flatten() for layer in layout]
    return torch.cat(parts)


def _near(layers: Sequence[LayerUse], words: Tensor, places: Tensor, parent: Tensor, delta: bool) -> Tensor:
    """bool: which of the candidates at `places` are cheaper as children of this parent than on their own."""
    some = torch.linspace(0, len(layers[0].weight) - 1, min(GLANCE, len(layers[0].weight))).long()
    glanced = _bits(layers[0], some)
    # At a glance: some rows of the first layer, whose flips unrelated masks have all over the place.
    own, differ = words[:, glanced][places], words[:, glanced][places] ^ parent[:, glanced]
    near = (popcount(differ).sum(1) <= WORTH * popcount(own).sum(1) if delta
            else ~differ.reshape(len(places), len(some), -1).any(2).all(1))
    at = near.nonzero().flatten()
    if len(at) < FEWEST:
        return torch.zeros_like(near)
    own, differ = words[places[at]], words[places[at]] ^ parent
    whole = torch.zeros(len(at), dtype=torch.float64)
    work, same = whole.clone(), torch.ones(len(at), dtype=torch.bool)
    for layer in layers:
        bits = _bits(layer, torch.arange(len(layer.weight)))
        kept, flipped = popcount(own[:, bits]).sum(1).double(), popcount(differ[:, bits])
        rows = (flipped.reshape(len(at), len(layer.weight), -1).sum(2) > 0).double().mean(1)
        # Behind the first flip everything may change.
        work += layer.positions * torch.where(same, flipped.sum(1).double() if delta else kept * rows, kept)
        whole += layer.positions * kept
        same &= rows == 0
    near[at] = work <= WORTH * whole
    return near


def _bits(layer: LayerUse, rows: Tensor) -> Tensor:
    """int64 [words]: where the words of some rows of a layer are."""
    W = word_count(layer.weight.shape[1])
    return (layer.first_word + rows[:, None] * W + torch.arange(W)).flatten()
