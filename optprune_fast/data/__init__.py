"""Labelled samples from a file, a folder or a built-in name. Nothing here ever downloads."""

from optprune_fast.data.dataset import Dataset, Samples
from optprune_fast.data.loading import load

__all__ = ["Dataset", "Samples", "load"]
