"""optprune_fast: which weights of a trained network to keep, found by what they do to the real loss."""

from optprune_fast.deploy.convert import convert
from optprune_fast.deploy.load import load
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.formats.export import export
from optprune_fast.masks.budgets import layer_budgets
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.magnitude import magnitude
from optprune_fast.masks.operators import random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.masks.torch_prune import from_torch_prune
from optprune_fast.ops.topk_threshold import topk_threshold
from optprune_fast.recipe.gradual import gradual
from optprune_fast.recipe.prune import prune
from optprune_fast.recipe.prune_and_refit import prune_and_refit
from optprune_fast.recipe.result import Result
from optprune_fast.recipe.sweep import Sweep, sweep
from optprune_fast.report.write import report  # shadows the folder's name; `from … import` finds both
from optprune_fast.runtime.doctor import doctor
from optprune_fast.tuning.finetune import finetune
from optprune_fast.tuning.refit import refit
from optprune_fast.version import __version__

__all__ = [
    "Evaluator", "MaskLayout", "PackedMasks", "Result", "Sweep", "__version__", "convert", "doctor", "export",
    "finetune", "from_torch_prune", "gradual", "layer_budgets", "load", "magnitude", "prune", "prune_and_refit",
    "random_masks", "refit", "report", "sweep", "topk_threshold",
]
