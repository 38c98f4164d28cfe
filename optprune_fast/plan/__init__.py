"""A model as a small typed graph, and what a native engine runs of it."""

from optprune_fast.plan.capture import capture
from optprune_fast.plan.exported import CannotCapture
from optprune_fast.plan.graph import Graph, Node

__all__ = ["CannotCapture", "Graph", "Node", "capture"]
