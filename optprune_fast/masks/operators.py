"""Random operators on packed masks that keep every budget exact.

All of them choose bits by counter-based keys (`ops.choose_bits`): a child depends on its seed alone, so results are
the same on every backend, any number of threads and any number of processes. Their counts are in range by the way they
are made, and not looked at.

Masks on a GPU stay there. Nothing waits for it either, but for a check of values that lie there: `crossover` reads the
parents' budgets unless told not to, `random_masks` what `core` and `within` keep, and all that makes moves reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.choose_bits import choose_bits
from optprune_fast.ops.cuda_support import sent
from optprune_fast.ops.words import popcount
from optprune_fast.runtime.errors import message

_STREAMS = {name: (number + 1) * 0x2545F4914F6CDD1D for number, name in enumerate(
    ("random", "crossover", "drop", "add"))}


def candidate_seeds(run_seed: int, generation: int, candidates: int) -> Tensor:
    """int64 [candidates]: the seed of each candidate, a function of (run seed, generation, index).

    >>> torch.equal(candidate_seeds(0, 3, 5)[:2], candidate_seeds(0, 3, 2))
    True
    """
    return torch.tensor([_mix(run_seed, generation, index) for index in range(candidates)], dtype=torch.int64)


def random_masks(layout: MaskLayout, budget: int, seeds: Tensor | Sequence[int], *,
                 core: PackedMasks | None = None, within: PackedMasks | None = None) -> PackedMasks:
    """Masks that keep exactly `budget` weights: all of `core`, the rest drawn evenly from `within`.

    seeds:    int64 [P], one a mask
    core:     weights that every mask keeps; none if not given
    within:   weights to draw from; all if not given
    returns:  `PackedMasks` of P masks, on the device of core or within, else of seeds

    Raises `ValueError` if the budget is not reachable.

    >>> layout = MaskLayout.from_shapes({"w": (4, 100)})
    >>> random_masks(layout, 40, [1, 2]).count()
    tensor([40, 40])
    """
    given = [m.device for m in (core, within, seeds) if isinstance(m, (PackedMasks, Tensor))]
    device = given[0] if given else torch.device("cpu")
    seeds = _seed_tensor(seeds, device)
    _require_same_layout("random_masks", layout, core=core, within=within)
    free = (PackedMasks.full(layout, device) if within is None else within).words
    fixed = torch.zeros_like(free) if core is None else core.words
    free = free & ~fixed
    least = 0 if core is None else int(core.count())
    most = layout.n if within is None else int(popcount(free | fixed).sum())
    if not least <= budget <= most:
        raise ValueError(message("random_masks", f"the budget must lie between {least} (the core) and {most} "
                                 "(the core and all that may be drawn)", "widen within= or change the budget",
                                 budget=budget))
    count = torch.full_like(seeds, budget - least)
    drawn = choose_bits(free.expand(seeds.shape[0], -1).contiguous(), count, seeds ^ _STREAMS["random"], check=False)
    return PackedMasks._of(layout, drawn | fixed)


def crossover(first: PackedMasks, second: PackedMasks, seeds: Tensor | Sequence[int], *,
              check: bool = True) -> PackedMasks:
    """Children that keep what both parents keep, and fill up to the budget from what only one keeps.

    first, second:  P parents each, pair by pair of equal budget
    seeds:          int64 [P]
    check:          False takes equal budgets for granted: to compare them waits for a GPU
    returns:        `PackedMasks` of P children, each with its parents' budget

    >>> layout = MaskLayout.from_shapes({"w": (4, 100)})
    >>> a, b = random_masks(layout, 40, [1]), random_masks(layout, 40, [2])
    >>> child = crossover(a, b, [3])
    >>> child.count(), (child & (a | b)).count(), child.overlap(a & b) == (a & b).count()
    (tensor([40]), tensor([40]), tensor([True]))
    """
    seeds = _seed_tensor(seeds, first.device)
    first._require_alike(second, "crossover")
    budget = first.count()
    if len(first) != len(second) or (check and not torch.equal(budget, second.count())):
        raise ValueError(message("crossover", "parents must pair up and have equal budgets", first=first.count(),
                                 second=second.count()))
    both = first.words & second.words
    filled = choose_bits(first.words ^ second.words, budget - popcount(both).sum(1), seeds ^ _STREAMS["crossover"],
                         check=False)
    return PackedMasks._of(first.layout, both | filled)


def mutate(masks: PackedMasks, swaps: Tensor | int, seeds: Tensor | Sequence[int], *,
           core: PackedMasks | None = None, within: PackedMasks | None = None) -> PackedMasks:
    """Make `swaps` random swaps in each mask: that many kept weights go, as many pruned ones come.

    masks:    P masks
    swaps:    int64 [P] or one number for all, not negative; fewer are made where fewer are possible
    seeds:    int64 [P]
    core:     weights that never go
    within:   the weights that may come; all if not given
    returns:  `PackedMasks` of P masks, each with the budget it had

    >>> layout = MaskLayout.from_shapes({"w": (4, 100)})
    >>> parent = random_masks(layout, 40, [1])
    >>> child = mutate(parent, 3, [2])
    >>> child.count(), child.overlap(parent)
    (tensor([40]), tensor([37]))
    """
    seeds = _seed_tensor(seeds, masks.device)
    _require_same_layout("mutate", masks.layout, core=core, within=within)
    swaps = torch.as_tensor(swaps)
    if swaps.device.type == "cpu" and bool((swaps < 0).any()):  # on a GPU one would wait for the answer
        raise ValueError(message("mutate", "swaps must not be negative", swaps=swaps.tolist()))
    held = masks.words if core is None else masks.words & ~core.words
    open_ = (~masks).words if within is None else (~masks).words & within.words
    possible = torch.minimum(popcount(held).sum(1), popcount(open_).sum(1))
    number = torch.minimum(sent(swaps, masks.device).clamp(min=0).expand_as(possible), possible)
    drop = choose_bits(held, number, seeds ^ _STREAMS["drop"], check=False)
    add = choose_bits(open_, number, seeds ^ _STREAMS["add"], check=False)
    return PackedMasks._of(masks.layout, masks.words ^ drop ^ add)


def swap(mask: PackedMasks, moves: Tensor) -> PackedMasks:
    """The neighbours of one mask: each move toggles its weights.

    mask:     a single mask
    moves:    int64 [M, F], flat weight indices in layout order, -1 fills
    returns:  `PackedMasks` of M masks

    Raises `ValueError` for indices outside the layout or twice in one move.

    >>> layout = MaskLayout.from_shapes({"w": (1, 4)})
    >>> parent = PackedMasks.from_indices(layout, torch.tensor([0, 1]))
    >>> swap(parent, torch.tensor([[0, 3]])).indices()
    tensor([1, 3])
    """
    check_moves(mask, moves)
    return PackedMasks._of(mask.layout, toggled(mask.layout, mask.words, moves))


def toggled(layout: MaskLayout, words: Tensor, moves: Tensor) -> Tensor:
    """int64 [M, W]: the words of one mask after each of `moves`, which `check_moves` let pass. words: int64 [1, W]."""
    positions = layout.positions(moves.clamp(min=0))
    bits = torch.where(moves >= 0, torch.ones_like(moves) << (positions % 64), 0)
    flipped = torch.zeros(moves.shape[0], layout.W, dtype=torch.int64, device=words.device)
    # The indices of a move differ, so adding their powers of two is the bitwise or.
    flipped.scatter_add_(1, positions // 64, bits)
    return words ^ flipped


def check_moves(mask: PackedMasks, moves: Tensor) -> None:
    """Raise unless `moves` are int64 [M, F] flips of weights of this layout, each weight at most once a move."""
    if len(mask) != 1:
        raise ValueError(message("moves", "the parent must be a single mask", "masks[i] is one", parent=mask))
    if moves.dtype != torch.int64 or moves.dim() != 2:
        raise ValueError(message("moves", "moves must be int64 [M, F]: flat weight indices, -1 fills", moves=moves))
    if moves.device != mask.device:
        raise ValueError(message("moves", "moves and parent must be on one device", parent=mask, moves=moves))
    if moves.numel() and (int(moves.min()) < -1 or int(moves.max()) >= mask.layout.n):
        raise ValueError(message("moves", f"indices must lie in [0, {mask.layout.n}), or be -1 to fill",
                                 smallest=int(moves.min()), largest=int(moves.max())))
    ordered = moves.sort(dim=1).values
    if bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()):
        raise ValueError(message("moves", "a move may name a weight once only: a second flip would undo the first",
                                 moves=moves))


def check_keeps_budget(mask: PackedMasks, moves: Tensor) -> None:
    """Raise `ValueError` unless each of `moves`, which `check_moves` let pass, drops as many weights as it adds."""
    positions = mask.layout.positions(moves.clamp(min=0))
    held = mask.words[0][positions // 64] >> (positions % 64) & 1
    change = torch.where(moves >= 0, 1 - 2 * held, 0).sum(1)
    if bool((change != 0).any()):
        first = int((change != 0).nonzero()[0])
        flips = [flip for flip in moves[first].tolist() if flip >= 0]
        raise ValueError(message("moves", "each move must drop as many weights as it adds, as keep_budget=True asks",
                                 "pair each dropped weight with one added, or leave keep_budget out", move=first,
                                 flips=flips, change=int(change[first])))


def _require_same_layout(where: str, layout: MaskLayout, **masks: PackedMasks | None) -> None:
    """Words of another layout may well be as many, and would mean other weights."""
    for name, mask in masks.items():
        if mask is not None and mask.layout != layout:
            raise ValueError(message(where, f"{name} is a mask of another layout", mask=mask, n=layout.n))


def _seed_tensor(seeds: Tensor | Sequence[int], device: torch.device) -> Tensor:
    return sent(torch.as_tensor(seeds, dtype=torch.int64), device)


def _mix(*numbers: int) -> int:
    """One int64 from several, by rounds of splitmix64."""
    state = 0
    for number in numbers:
        state = (state ^ (number & _ALL)) + 0x9E3779B97F4A7C15 & _ALL
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _ALL
        state ^= state >> 31
    return state - (1 << 64) if state >> 63 else state


_ALL = (1 << 64) - 1
