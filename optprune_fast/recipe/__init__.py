"""The one-call recipe: prune a trained network, keep the result, apply it."""
