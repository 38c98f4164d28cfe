"""One result for the small network of tests/conftest.py."""

import pytest

from optprune_fast.recipe.prune import prune


@pytest.fixture(scope="session")
def result(network, samples):
    """Found with a core, so that every mask of it differs from the others."""
    return prune(network, samples, 0.9, small=0.5, evaluations=400)
