"""`finetune`: train the kept weights, with the mask fixed."""

from __future__ import annotations

from torch import nn

from optprune_fast.engine.batches import HELD_OUT, Batch, Data, collect, split
from optprune_fast.engine.objective import UserObjective
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.tuning.logits import enlarge_logits
from optprune_fast.tuning.loss import Loss
from optprune_fast.tuning.support import Support
from optprune_fast.tuning.training import Settings, train


def finetune(model: nn.Module, mask: PackedMasks, data: Data, *, epochs: int = 10, lr: float = 3e-3,
             batch_size: int = 128, seed: int = 0, validation: Data | None = None,
             objective: str | UserObjective = "cross_entropy", optimizer: str = "adamw", weight_decay: float = 0.0,
             freeze_statistics: bool = False, progress: bool | None = None) -> nn.Module:
    """Train a copy of a model in which the pruned weights are zero at every step.

    model:              any `nn.Module`; it is never changed. Parameters without `requires_grad` stay as they are
    mask:               one mask of the model's layout
    data:               as `Evaluator` takes them
    lr:                 the first rate; it falls to zero along a cosine [1]
    batch_size:         samples that do not fill a last batch are left out of an epoch
    seed:               of the held-out part, the order of the samples and dropout; on one CPU thread it gives the same
                        weights bit for bit. The global generator is left as it was
    validation:         data to select by; None holds out a seeded 10 % of `data`, the part that `prune` holds out
    objective:          as `Evaluator` takes it, with a gradient: "kl_to_dense" learns from the unpruned network
    optimizer:          torch's "adamw" [2], or "sgd" with momentum 0.9
    weight_decay:       of every parameter
    freeze_statistics:  keep the running statistics of batch normalisation, and normalise by them
    progress:           True, False, or None: a bar on a terminal and silence elsewhere
    returns:            the copy in eval mode, after the epoch that validation found best (or before the first)

    A network that was pruned far has small logits, which training would first make larger. So where the objective is
    cross-entropy and a linear layer ends the model, that layer is multiplied by the number, from 1 to 100, at which
    logits have the least loss on the validation data.

    Ctrl-C returns the best so far; so does a loss that is no number, with a `TuningWarning`. Raises `ValueError` for
    wrong arguments before any work.

    [1] Loshchilov, Hutter: SGDR, ICLR 2017.  [2] Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019.

    >>> import torch, optprune_fast as opf
    >>> torch.manual_seed(0); model = nn.Linear(16, 4)  # doctest: +ELLIPSIS
    <torch...>
    >>> x = torch.randn(200, 16)
    >>> mask = opf.magnitude(model, 0.5).mask
    >>> tuned = finetune(model, mask, (x, model(x).argmax(1)), epochs=2)
    >>> int(tuned.weight.count_nonzero())
    32
    """
    settings = Settings(epochs, lr, batch_size, seed, optimizer, weight_decay, freeze_statistics)
    settings.check("finetune")
    support = Support("finetune", model, mask)
    training, held_out = parts(data, validation, seed)
    loss = Loss("finetune", model, [*training, *held_out], objective)
    try:
        enlarge_logits(support.model, loss, held_out)
        train("finetune", support, loss, training, held_out, settings, progress)
    except KeyboardInterrupt:  # before there was anything to train
        support.model.eval()
    return support.model


def parts(data: Data, validation: Data | None, seed: int) -> tuple[list[Batch], list[Batch]]:
    """(what to learn from, what to select by)."""
    batches = collect(data)
    return split(batches, HELD_OUT, seed) if validation is None else (batches, collect(validation))
