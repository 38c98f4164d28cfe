"""Which values stay in bands, and in how many rows."""

from __future__ import annotations

import math

import torch
from torch import nn

from optprune_fast.masks.layout import MaskLayout
from optprune_fast.plan import capture
from optprune_fast.plan.band_rows import band_rows
from optprune_fast.plan.bands import in_bands
from optprune_fast.plan.graph import Graph
from optprune_fast.testing.nets import Net


def graph_of(model: nn.Module, *shape: int) -> Graph:
    return capture(model.eval(), (torch.randn(2, *shape),), {}, MaskLayout.of(model))


def halving(times: int, channels: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, channels, 3, padding=1), *(
        nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(times)))


def rows(graph: Graph, bands: int) -> list[int | None]:
    found = band_rows(graph, bands)
    return [found.get(node.output) for node in graph.nodes]


def test_one_zone_where_it_fills_the_lanes() -> None:
    assert rows(graph_of(halving(2), 2, 64, 8), 16) == [4, 4, 2, 1]


def test_bands_cover_a_picture_whose_rows_they_do_not_divide() -> None:
    assert rows(graph_of(halving(1), 2, 33, 8), 16) == [4, 4, 2]


def test_where_a_band_would_have_less_than_a_row_a_zone_of_its_own_begins() -> None:
    last = nn.Conv2d(8, 64, 3, stride=2, padding=1), nn.Conv2d(64, 64, 3, padding=1)
    graph = graph_of(nn.Sequential(*halving(2), *last), 2, 56, 8)
    assert rows(graph, 16) == [4, 4, 2, 1, 1, 1]  # rows 56, 56, 28, 14, 7, 7
    cut = in_bands(graph, 16)
    assert cut is not None
    moves = [node for node in cut.nodes if node.op == "regroup"]
    assert [(node.attributes["into"], cut.shapes[node.output][1]) for node in moves] == [(16, 2), (1, 7)]


def test_pooling_over_the_whole_picture_is_left_out() -> None:
    graph = graph_of(nn.Sequential(*halving(1), nn.AvgPool2d(16)), 2, 32, 32)
    assert rows(graph, 16) == [2, 2, 1, None]


def test_whole_pictures_where_bands_bring_nothing() -> None:
    assert rows(graph_of(nn.Conv2d(1, 2, 3, padding=1), 1, 1, 9), 16) == [None, None]
    assert in_bands(graph_of(nn.Conv2d(1, 2, 3, padding=1), 1, 1, 9), 16) is None


def test_pooling_that_overlaps_stays_in_bands_unless_a_convolution_reads_the_same() -> None:
    pool, conv = nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
    graph = graph_of(nn.Sequential(*halving(1), pool, conv), 2, 64, 8)
    assert rows(graph, 16) == [4, 4, 2, 1, 1]
    cut = in_bands(graph, 16)
    assert cut is not None
    assert [node.attributes["outside"] for node in cut.nodes if node.op == "halo"] == [0, 0, -math.inf, 0]
    beside = Net(lambda m, x: torch.cat([m["p"](y := m["a"](x)), m["b"](y)], 1), a=nn.Conv2d(2, 8, 3, padding=1),
                 p=nn.MaxPool2d(3, 1, 1), b=conv)
    assert rows(graph_of(beside, 2, 64, 8), 16)[2] is None


def test_a_pixel_is_spread_over_the_bands() -> None:
    graph = graph_of(Net(lambda m, x: m["b"]((y := m["a"](x)) * y.mean((2, 3), keepdim=True)),
                         a=nn.Conv2d(2, 8, 3, padding=1), b=nn.Conv2d(8, 8, 3, padding=1)), 2, 64, 8)
    cut = in_bands(graph, 16)
    assert cut is not None
    assert [node.op for node in cut.nodes][3:] == ["regroup", "mean", "spread", "mul", "halo", "conv2d", "regroup"]
