"""A mask becomes `torch.nn.utils.prune`, is fine-tuned as usual, comes back, and is made permanent."""

import copy

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

import optprune_fast as opf
from optprune_fast.data import load
from optprune_fast.models import MLP
from optprune_fast.models.train import accuracy, train


def main(evaluations: int = 2000) -> dict[str, float]:
    torch.manual_seed(0)
    data = load("digits")
    net = train(MLP([64, 64, 32, 10]), data.train, epochs=40)
    result = opf.prune(net, data.train, sparsity=0.98, evaluations=evaluations)

    # Every pruned layer now has weight_orig and weight_mask: whatever knows torch's pruning knows this model.
    model = result.as_torch_prune(copy.deepcopy(net))
    before = accuracy(model, data.test)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():  # the same classes, but logits as sure as the search took them: a better place to start from
        last.weight_orig.mul_(result.logit_scale)
        last.bias.mul_(result.logit_scale)
    train(model, data.train, epochs=5, lr=2e-3)  # the masks hold, so pruned weights stay out
    after = accuracy(model, data.test)
    assert opf.from_torch_prune(model) == result.mask

    for module in model.modules():
        if isinstance(module, nn.Linear):
            torch_prune.remove(module, "weight")  # weight = weight_orig * weight_mask, for good
    assert accuracy(model, data.test) == after

    kept = int(sum(module.weight.count_nonzero() for module in model.modules() if isinstance(module, nn.Linear)))
    print(f"{kept} weights kept; test accuracy {before:.1%} as found, {after:.1%} after fine-tuning")
    return {"kept": kept, "before": before, "after": after}


if __name__ == "__main__":
    main()
