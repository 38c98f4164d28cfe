"""The whole way in one call: train, prune to 95 % by an optimizer, save, load, apply, compare with magnitude."""

import copy
import tempfile

import torch

import optprune_fast as opf
from optprune_fast.data import load
from optprune_fast.models import MLP
from optprune_fast.models.train import accuracy, train


def main(evaluations: int = 4000) -> dict[str, float]:
    torch.manual_seed(0)
    data = load("digits")
    net = train(MLP([64, 64, 32, 10]), data.train, epochs=40)

    # A tenth of the data is held out to select by. A limit on evaluations, not on time, makes the run repeat exactly.
    result = opf.prune(net, data.train, sparsity=0.95, evaluations=evaluations, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        result.save(folder)
        result = opf.Result.load(folder)

    pruned = result.apply_to(copy.deepcopy(net))
    by_magnitude = opf.Evaluator(net, data.test).metrics(opf.magnitude(net, sparsity=0.95).mask)["accuracy"].item()
    rows = {"dense": accuracy(net, data.test), "magnitude": by_magnitude, "optimized": accuracy(pruned, data.test)}
    print(f"{result.budget} weights kept, {result.kept_small} of them too small for magnitude pruning; test accuracy:")
    for name, value in rows.items():
        print(f"  {name:<10} {value:.1%}")
    return rows


if __name__ == "__main__":
    main()
