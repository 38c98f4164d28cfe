"""Two small networks pruned to two rates, and a report of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from optprune_fast.models import MLP
from optprune_fast.recipe.prune import prune


@pytest.fixture(scope="session")
def problem():
    """`nets`, `data`, `test` and `results`: two rates, a network a seed, and one run with a core."""
    random = torch.Generator().manual_seed(0)
    nets = [MLP([12, 16, 3]).eval() for _ in range(2)]
    for net in nets:
        for parameter in net.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random) * 0.5
    x = torch.randn(360, 12, generator=random)
    y = nets[0](x).argmax(1)
    data, test = (x[:240], y[:240]), (x[240:], y[240:])
    results = [prune(net, data, rate, evaluations=400, seed=seed, progress=False)
               for rate in (0.6, 0.8) for seed, net in enumerate(nets)]
    results.append(prune(nets[0], data, 0.8, small=0.5, evaluations=20, progress=False))
    return SimpleNamespace(nets=nets, data=data, test=test, results=results)


@pytest.fixture(scope="session")
def reported(problem, tmp_path_factory):
    """A whole report: its `folder`, `html`, and `made`, the document of report.json."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from optprune_fast.report.write import report

    page = report(problem.results, tmp_path_factory.mktemp("report"), problem.nets, problem.data, problem.test)
    return SimpleNamespace(folder=page.parent, html=page.read_text(),
                           made=json.loads((page.parent / "report.json").read_text()))
