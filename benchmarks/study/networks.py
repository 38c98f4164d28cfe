"""The networks of the study: their data, how each is made, and how the study trains it. Seeded, kept in files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.data import Dataset, Samples, load
from optprune_fast.data.subset import stratified
from optprune_fast.models import MLP, LeNet5, ResNet20, TinyTransformer
from optprune_fast.models.train import train
from optprune_fast.runtime.files import load_tensors, save_tensors

VALIDATION = 0.1  # share of the training part that neither training nor a search sees: masks are selected on it
SHIFT = 4         # pixels


@dataclass(frozen=True)
class Sources:
    """Where the data lie.

    data:   a folder with idx files in mnist/ and, if it is not installed, in fashion-mnist/
    cifar:  a folder of pictures, train/<class>/ and test/<class>/
    limit:  at most so many samples of the training and of the test part
    """

    data: Path | None = None
    cifar: Path | None = None
    limit: int | None = None


def mnist(sources: Sources) -> Dataset:
    if sources.data is None:
        raise FileNotFoundError("MNIST: --data FOLDER says where it lies, as idx files in FOLDER/mnist")
    return load(sources.data / "mnist", mean=0.1307, std=0.3081, limit=sources.limit)


def fashion(sources: Sources) -> Dataset:
    place = None if sources.data is None else sources.data / "fashion-mnist"
    return load("fashion-mnist", path=place if place is not None and place.is_dir() else None, limit=sources.limit)


def cifar(sources: Sources) -> Dataset:
    if sources.cifar is None:
        raise FileNotFoundError("CIFAR-10: --cifar FOLDER says where it lies, as pictures in FOLDER/train/<class>/ and "
                                "FOLDER/test/<class>/")
    return load(sources.cifar, limit=sources.limit)


def digits(sources: Sources) -> Dataset:
    return load("digits", limit=sources.limit)


def sgd(model: nn.Module, data: Samples, epochs: int, seed: int, *, lr: float, momentum: float,
        weight_decay: float = 0.0, batch_size: int = 64, cosine: bool = False, augment: bool = False) -> None:
    """Plain stochastic gradient descent over all samples, those that fill no last batch too.

    cosine:   the rate falls to zero along a cosine instead of staying
    augment:  pictures are mirrored at random, and those of a batch shifted by up to 4 pixels
    """
    inputs, targets = data
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=momentum, weight_decay=weight_decay)
    order, step = torch.Generator().manual_seed(seed), 0
    steps = epochs * math.ceil(len(inputs) / batch_size)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=order).split(batch_size):
            if cosine:
                optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            x = _augmented(inputs[rows], order) if augment else inputs[rows]
            optimizer.zero_grad()
            F.cross_entropy(model(x), targets[rows]).backward()
            optimizer.step()
            step += 1


def _augmented(x: Tensor, order: torch.Generator) -> Tensor:
    mirrored = torch.rand(len(x), 1, 1, 1, generator=order) < 0.5
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=order).tolist()
    height, width = x.shape[-2:]
    padded = F.pad(torch.where(mirrored, x.flip(3), x), (SHIFT,) * 4)
    return padded[..., down:down + height, right:right + width]


def adamw(model: nn.Module, data: Samples, epochs: int, seed: int, *, lr: float) -> None:
    train(model, data, epochs=epochs, lr=lr, seed=seed)


@dataclass(frozen=True)
class Network:
    """fit: called with (model, data, epochs, seed); slow: a search gets so many times the plan's seconds."""

    title: str
    data: Callable[[Sources], Dataset]
    build: Callable[[], nn.Module]
    fit: partial[None]
    epochs: int
    tune_epochs: int = 5
    slow: float = 1.0

    def recipe(self, epochs: int, limit: int | None) -> str:
        """How a network was trained: one in a file is used again only if it says the same."""
        return f"{self.fit.func.__name__} {self.fit.keywords}, {epochs} epochs, samples: {limit or 'all'}"


NETWORKS = {
    "mlp-40-20": Network("784-40-20-10 without biases, MNIST", mnist, partial(MLP, (784, 40, 20, 10), bias=False),
                         partial(sgd, lr=0.02, momentum=0.5), 4),
    "lenet-300-100": Network("LeNet-300-100, MNIST", mnist, partial(MLP, (784, 300, 100, 10)),
                             partial(adamw, lr=3e-3), 8),
    "lenet5": Network("LeNet-5, Fashion-MNIST", fashion, LeNet5, partial(adamw, lr=3e-3), 10, 3, 2.0),
    "resnet20": Network("ResNet-20, CIFAR-10", cifar, ResNet20,
                        partial(sgd, lr=0.1, momentum=0.9, weight_decay=5e-4, batch_size=128, cosine=True,
                                augment=True), 30, 1, 6.0),
    "transformer": Network("small transformer, scikit-learn's digits", digits,
                           partial(TinyTransformer, 1, 8, patch=2, width=32, heads=4), partial(adamw, lr=3e-3), 40, 10),
}


@dataclass(frozen=True, eq=False)
class Parts:
    """Data apart: calibration is what training and searches see, validation selects, test is looked at in the end."""

    calibration: Samples
    validation: Samples
    test: Samples


def parts(dataset: Dataset, seed: int) -> Parts:
    assert dataset.test is not None
    inputs, targets = dataset.train
    rest, held = stratified(targets, VALIDATION, seed)
    return Parts((inputs[rest], targets[rest]), (inputs[held], targets[held]), dataset.test)


def trained(network: Network, calibration: Samples, seed: int, epochs: int, limit: int | None, path: Path) -> nn.Module:
    """The network of a seed, from its file if there is one; `ValueError` for one that was trained differently."""
    recipe = network.recipe(epochs, limit)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network.build()
    if path.exists():
        tensors, about = load_tensors(path, kind="network")
        if about["recipe"] != recipe:
            raise ValueError(f"{path} was trained differently ({about['recipe']}, not {recipe}): use another --out")
        model.load_state_dict(tensors)
    else:
        network.fit(model, calibration, epochs, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, model.state_dict(), {"recipe": recipe}, kind="network")
    return model.eval()
