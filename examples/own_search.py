"""Your own search, with `Evaluator` as its judge: hill climbing by random swaps.

Each round makes some neighbours of the best mask, asks for the fitness of all at once, and keeps the best.
A swap drops one kept weight and adds one pruned weight, so the number of kept weights never changes.
"""

import torch

import optprune_fast as opf
from optprune_fast.data import load
from optprune_fast.models import MLP
from optprune_fast.models.train import train


def neighbour(mask: opf.PackedMasks, swaps: int, generator: torch.Generator) -> opf.PackedMasks:
    kept, pruned = mask.indices(), (~mask).indices()
    drop = torch.randperm(len(kept), generator=generator)[:swaps]
    add = torch.randperm(len(pruned), generator=generator)[:swaps]
    kept[drop] = pruned[add]
    return opf.PackedMasks.from_indices(mask.layout, kept)


def climb(ev: opf.Evaluator, mask: opf.PackedMasks, *, rounds: int, neighbours: int, seed: int) -> opf.PackedMasks:
    generator = torch.Generator().manual_seed(seed)
    best = ev(mask)[0]
    for _ in range(rounds):
        masks = opf.PackedMasks.cat([neighbour(mask, 3, generator) for _ in range(neighbours)])
        fitness = ev(masks)
        if fitness.min() < best:
            best, mask = fitness.min(), masks[int(fitness.argmin())]
    return mask


def main(rounds: int = 150) -> dict[str, float]:
    torch.manual_seed(0)
    data = load("digits")
    net = train(MLP([64, 64, 32, 10]), data.train, epochs=40)
    start = opf.magnitude(net, sparsity=0.95).mask
    ev = opf.Evaluator(net, data.train)
    found = climb(ev, start, rounds=rounds, neighbours=32, seed=0)

    assert found.count() == start.count()
    # The climb has not seen the test part.
    test = opf.Evaluator(net, data.test).metrics(opf.PackedMasks.cat([start, found]))["accuracy"].tolist()
    print(f"{int(found.count())} of {ev.layout.n} weights kept, test accuracy:")
    print(f"  by magnitude   {test[0]:.1%}\n  by your search {test[1]:.1%}")
    return {"magnitude": test[0], "own": test[1]}


if __name__ == "__main__":
    main()
