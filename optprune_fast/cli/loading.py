"""Models and data by name, as the command line takes them."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from optprune_fast.data import Dataset, Samples, load
from optprune_fast.runtime.errors import IntegrityError, message

FACTORY_HELP = "Python factory module:function, called without arguments; the current folder is importable."
DATA_HELP = "Folder of idx files, folder of pictures by class, .npz, or the built-in digits or fashion-mnist."
CHECKPOINT_HELP = "Weights: .safetensors, or a state_dict as .pt (read with weights_only=True)."


def load_data(name: str) -> Dataset:
    """`data.load`; a package that it lacks is an error of the user like any other."""
    try:
        return load(name)
    except ImportError as error:
        raise ValueError(str(error)) from error


def load_model(factory: str, checkpoint: Path | None) -> nn.Module:
    """What the factory makes, with the weights of the checkpoint, in eval mode.

    The global generator is seeded first, so that a factory that draws its weights draws the same ones again.
    """
    module_name, colon, function_name = factory.partition(":")
    if not (colon and module_name and function_name):
        raise ValueError(message("model", "must be module:function", "for example my_models:lenet", model=factory))
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the user's module is there and misses something itself: its traceback says where
        raise ValueError(message("model", "there is no such module", "run from the folder that holds it, or install it",
                                 module=module_name, folder=str(Path.cwd()))) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        there = ", ".join(name for name, value in vars(module).items() if callable(value) and name[0] != "_")
        raise ValueError(message("model", "the module has no such function", f"it has: {there or 'none'}",
                                 module=module_name, function=function_name))
    torch.manual_seed(0)
    model = function()
    if not isinstance(model, nn.Module):
        raise TypeError(message("model", "the factory must return an nn.Module", factory=factory,
                                returned=type(model).__name__))
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return model.eval()


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Fill the model with the file's tensors. Every parameter and buffer must be there, and nothing else."""
    state = _read(path)
    try:
        keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        raise ValueError(message("checkpoint", f"does not fit the model: {error}", path=str(path))) from error
    if keys.missing_keys or keys.unexpected_keys:
        raise ValueError(message("checkpoint", "must hold every tensor of the model and no other", path=str(path),
                                 missing=keys.missing_keys, unexpected=keys.unexpected_keys))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(message("checkpoint", "there is no such file", path=str(path)))
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise IntegrityError(message("checkpoint", f"not a whole safetensors file: {error}",
                                         path=str(path))) from error
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(message("checkpoint", "must end in .safetensors, .pt or .pth", path=str(path)))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise IntegrityError(message("checkpoint", "cannot be read with weights_only=True: it is damaged, or it holds "
                                     "Python objects that could run code", "save model.state_dict(), best as "
                                     ".safetensors", path=str(path))) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(message("checkpoint", "must be a state_dict: names and tensors alone",
                                 "torch.save(model.state_dict(), path)", path=str(path), holds=type(state).__name__))
    return state


def check_fits(model: nn.Module, samples: Samples, data: str) -> None:
    """Raise `ValueError` unless the model takes these samples and has an output for each of their classes."""
    inputs, targets = samples
    try:
        with torch.no_grad():
            outputs = model(inputs[:2])
    except RuntimeError as error:
        raise ValueError(message("model", f"cannot take the samples of this data: {error}", data=data,
                                 inputs=inputs)) from error
    if outputs.dim() != 2 or outputs.shape[1] <= int(targets.max()):
        raise ValueError(message("model", "must give one output per class", data=data, outputs=outputs,
                                 largest_label=int(targets.max())))
