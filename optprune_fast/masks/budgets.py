"""How many weights each layer keeps: schemes that share one exact budget among the layers.

    global   the largest weights of all layers together
    uniform  every layer at the same density
    erk      density of a layer ~ (sum of its dimensions) / (product of its dimensions)
    lamp     the highest layer-adaptive magnitude scores of all layers together
"""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction

import torch
from torch import Tensor, nn

from optprune_fast.masks.layout import MaskLayout, check_finite
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops.topk_threshold import topk_threshold
from optprune_fast.ops.words import popcount, unpack
from optprune_fast.runtime.errors import message

SCHEMES = ("global", "uniform", "erk", "lamp")


def layer_budgets(model: nn.Module, sparsity: float = 0.95, scheme: str = "erk", *,
                  layout: MaskLayout | None = None) -> dict[str, int]:
    """Weights to keep in each layer, exactly `k = n - round(sparsity * n)` of them in all.

    model:     its weights are read, never changed
    sparsity:  fraction to prune, in [0, 1)
    scheme:    "global", "uniform", "erk" or "lamp"
    layout:    which weights are prunable; `MaskLayout.of(model)` if not given
    returns:   {name: kept weights}, in layout order

    - "global": as global magnitude pruning keeps them
    - "uniform": every layer at the same density
    - "erk", Erdős-Rényi-Kernel: a weight [O, I, …] gets a density in proportion to (O + I + …) / (O · I · …); what a
      full layer cannot take goes to the others. Mocanu et al. 2018 (Nature Communications 9:2383), and with kernels
      Evci et al. 2020 (ICML, "Rigging the Lottery: Making All Tickets Winners")
    - "lamp": as `lamp_scores` of all layers together keep them. Lee et al. 2021 (ICLR, "Layer-adaptive Sparsity for the
      Magnitude-based Pruning")

    Uniform and ERK round by largest remainder, ties in layout order. They, and LAMP but for layers of zeros, leave no
    layer empty while the budget has a weight for each. Raises `ValueError` for an unknown scheme, a sparsity outside
    [0, 1), or weights that are not finite.

    >>> model = nn.Sequential(nn.Linear(100, 20), nn.ReLU(), nn.Linear(20, 5))
    >>> layer_budgets(model, sparsity=0.9, scheme="uniform"), layer_budgets(model, sparsity=0.9, scheme="erk")
    ({'0.weight': 200, '2.weight': 10}, {'0.weight': 174, '2.weight': 36})
    """
    layout = MaskLayout.of(model) if layout is None else layout
    weights = layout.weights_of(model)
    check_finite(weights)
    counts = layer_counts(layout, weights, layout.budget(sparsity), scheme)
    return {layer.name: count for layer, count in zip(layout, counts, strict=True)}


def layer_counts(layout: MaskLayout, weights: dict[str, Tensor], budget: int, scheme: str, *,
                 core: PackedMasks | None = None, within: PackedMasks | None = None) -> list[int]:
    """Weights that each layer keeps, `budget` of them in all.

    core:    weights that are kept, one mask; none if not given
    within:  the others are chosen out of these, one mask; all if not given

    Raises `ValueError` for an unknown scheme, or a budget that core and `within` do not allow.
    """
    if scheme not in SCHEMES:
        raise ValueError(message("layer_budgets", f"scheme must be one of {', '.join(SCHEMES)}", scheme=scheme))
    everything = PackedMasks.full(layout, next(iter(weights.values())).device)
    held = ~everything if core is None else core
    choice = (everything if within is None else within) & ~held
    least, most = kept_by_layer(held)[0].tolist(), kept_by_layer(held | choice)[0].tolist()
    if not sum(least) <= budget <= sum(most):
        raise ValueError(message("layer_budgets", f"the budget must lie between {sum(least)} (the core) and "
                                 f"{sum(most)} (the core and all that may be chosen)",
                                 "widen the pool or change the budget", budget=budget))
    if scheme in ("uniform", "erk"):
        shares = [layer.rows * layer.columns if scheme == "uniform" else sum(layer.shape) for layer in layout]
        alive = [max(low, min(1, high)) for low, high in zip(least, most, strict=True)]
        return share_out(budget, shares, alive if sum(alive) <= budget else least, most)
    flags = choice.to_dense()
    # Order within a layer does not matter here: a layer keeps its largest weights, and equal scores tie by layer.
    scores = [(lamp_scores(weights[x.name]) if scheme == "lamp" else weights[x.name].detach().double().abs())
              [flags[x.name][0]] for x in layout]
    kept = topk_threshold(torch.cat(scores), budget - sum(least))
    chosen = unpack(kept.words[0], sum(map(len, scores)))[0].split([len(x) for x in scores])
    return [low + int(flags.sum()) for low, flags in zip(least, chosen, strict=True)]


def lamp_scores(weight: Tensor) -> Tensor:
    """The layer-adaptive magnitude score of each weight: w² / (sum of w'² over it and all that rank above it).

    weight:   float [O, ...]
    returns:  float64 [O, ...]; 1 for the largest weight, 0 for zeros. Equal magnitudes rank by position, lowest first

    >>> lamp_scores(torch.tensor([[3.0, -4.0, 0.0]]))
    tensor([[0.3600, 1.0000, 0.0000]], dtype=torch.float64)
    """
    magnitudes, order = weight.detach().double().abs().flatten().sort(descending=True, stable=True)
    if magnitudes.numel() == 0 or magnitudes[0] == 0:
        return torch.zeros(weight.shape, dtype=torch.float64, device=weight.device)
    squares = (magnitudes / magnitudes[0]).square()  # of ratios, which do not overflow
    scores = torch.empty_like(squares)
    scores[order] = squares / squares.cumsum(0)
    return scores.reshape(weight.shape)


def share_out(total: int, shares: list[int], least: list[int], most: list[int]) -> list[int]:
    """Whole numbers that add up to `total`, as near to proportional to `shares` as their bounds allow.

    The exact solution is `clamp(rate * share, least, most)` with the one rate whose sum is `total`; its fractions are
    rounded by largest remainder, ties in order. `sum(least) <= total <= sum(most)` is the caller's to check.

    >>> share_out(10, [1, 1, 2], [0, 0, 0], [1, 9, 9])
    [1, 3, 6]
    """
    bounds = list(zip(shares, least, most, strict=True))

    def at(rate: Fraction) -> list[Fraction]:
        return [min(max(rate * share, Fraction(low)), Fraction(high)) for share, low, high in bounds]

    # The sum is linear in the rate between the rates where a layer meets a bound.
    corners = sorted({Fraction(bound, share) for share, low, high in bounds if low < high for bound in (low, high)})
    if not corners:
        return least
    right = bisect_left(corners, Fraction(total), key=lambda rate: sum(at(rate), Fraction()))
    rate = corners[right]
    if right:
        below, above = (sum(at(x), Fraction()) for x in (corners[right - 1], rate))
        rate = corners[right - 1] + (rate - corners[right - 1]) * (total - below) / (above - below)
    exact = at(rate)
    whole = [int(x) for x in exact]
    order = sorted(range(len(exact)), key=lambda i: whole[i] - exact[i])
    for i in order[: total - sum(whole)]:
        whole[i] += 1
    return whole


def kept_by_layer(masks: PackedMasks) -> Tensor:
    """int64 [P, layers]: kept weights of each mask in each layer.

    >>> layout = MaskLayout.from_shapes({"a": (1, 3), "b": (2, 2)})
    >>> kept_by_layer(PackedMasks.full(layout))
    tensor([[3, 4]])
    """
    return torch.stack([popcount(masks.words[:, layer.words]).sum(1) for layer in masks.layout], dim=1)
