"""Optuna turns the knobs of a search: each trial is a short search, judged on held-out data that it did not see.

The knobs are how many swaps are tried at once, how hard a mask is kicked where none helps, and how many of the kept
weights are free to choose. The first trial has the defaults, so what is found is never worse than they are.
Needs Optuna: pip install "optprune-fast[optuna]".
"""

from __future__ import annotations

import optuna
import torch

import optprune_fast as opf
from optprune_fast.data import load
from optprune_fast.models import MLP
from optprune_fast.models.train import train
from optprune_fast.search.swaps import SwapSearch

DEFAULTS = {"pairs": 96, "kick": 0.02, "small": 1.0}


def main(trials: int = 25, evaluations: int = 1000) -> dict[str, float]:
    torch.manual_seed(0)
    data = load("digits")
    net = train(MLP([64, 64, 32, 10]), data.train, epochs=40)
    found: dict[int, opf.Result] = {}

    def search(trial: optuna.Trial) -> float:
        strategy = SwapSearch(pairs=trial.suggest_int("pairs", 8, 256, log=True),
                              kick=trial.suggest_float("kick", 0.001, 0.3, log=True))
        small = trial.suggest_float("small", 0.3, 1.0)
        result = opf.prune(net, data.train, 0.95, strategy, small, evaluations=evaluations, progress=False)
        found[trial.number] = result
        return result.fitness

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(DEFAULTS)
    study.optimize(search, n_trials=trials)

    first, best = found[0], found[study.best_trial.number]
    masks = opf.PackedMasks.cat([first.magnitude, first.mask, best.mask])
    # No trial has seen the test part.
    test = opf.Evaluator(net, data.test).metrics(masks)["accuracy"].tolist()
    print(f"best of {trials}: {study.best_params}")
    print("held-out loss, test accuracy:")
    for name, loss, accuracy in zip(("magnitude", "defaults", "tuned"), (first.baseline, first.fitness, best.fitness),
                                    test, strict=True):
        print(f"  {name:<9} {loss:.4f}, {accuracy:.1%}")
    return {"magnitude": first.baseline, "defaults": first.fitness, "tuned": best.fitness}


if __name__ == "__main__":
    main()
