"""The page stands alone and has every part; files hold the same numbers; errors come before any work."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import sys
from html.parser import HTMLParser

import pytest
import torch

from optprune_fast.models import MLP
from optprune_fast.recipe.prune import prune
from optprune_fast.report.write import FIGURES, TABLES, report

WITHOUT_DATA = ["accuracy", "overfitting", "convergence", "densities", "small"]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.links, self.ids, self.headings = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_the_page_has_every_part(reported):
    page = Reader(reported.html)
    assert page.open == []  # every element is closed
    assert [i for i in page.ids if i in FIGURES] == list(FIGURES)
    assert page.headings[-1] == "Every run"  # nothing is missing
    assert page.seen.count("svg") == len(FIGURES) == 7
    assert page.seen.count("figcaption") == 7
    assert f"<h1>{reported.made['verdict']}</h1>".replace("'", "&#x27;") in reported.html


def test_the_page_needs_nothing_else(reported):
    page = Reader(reported.html)
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.seen)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert all(name in page.ids for name in re.findall(r"url\(#(.*?)\)", reported.html))
    assert re.findall(r"https?:|file:|url\((?!#)|@import", reported.html) == []
    assert len(page.ids) == len(set(page.ids))


def test_every_colour_of_a_picture_is_a_variable_that_the_page_sets_for_light_and_dark(reported):
    pictures = "".join(re.findall(r"<svg.*?</svg>", reported.html, re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b(?!\w)", re.sub(r'(?:url\(|href="|id=")#?\w+', "", pictures)) == []
    used = set(re.findall(r"var\((--\w+)\)", reported.html))
    light, dark = re.findall(r":root\{(.*?)\}", reported.html)
    for theme in (light, dark):
        assert used <= set(re.findall(r"(--\w+):", theme))


def test_names_of_layers_and_strategies_are_escaped(problem, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    result = dataclasses.replace(problem.results[0], strategy="<b>&mine")
    text = report(result, tmp_path).read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;mine" in text


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_not_blank(reported, name):
    image = pytest.importorskip("matplotlib.image", reason="needs matplotlib")
    pixels = image.imread(reported.folder / f"{name}.png")[..., :3]
    height, width, _ = pixels.shape
    assert min(height, width) > 200
    white = (pixels == 1).all(axis=2)
    assert 0.3 < white.mean() < 0.99
    colored = (pixels.max(axis=2) - pixels.min(axis=2)) > 0.3  # the series: axes and words are grey
    assert colored.sum() > 150


def test_csv_holds_the_numbers_of_json(reported):
    with open(reported.folder / "report.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["table"] for line in lines] == [name for name in TABLES for _ in reported.made[name]]
    for name in TABLES:
        mine = [line for line in lines if line["table"] == name]
        for line, row in zip(mine, reported.made[name], strict=True):
            for column, value in row.items():
                if value is None or isinstance(value, str):
                    assert line[column] == (value or "")
                else:
                    assert json.loads(line[column]) == value, (name, column)
            assert all(not line[column] for column in line.keys() - row.keys() - {"table"})


def test_figures_show_the_numbers_of_json(reported):
    from optprune_fast.report import figures
    from optprune_fast.report.style import look

    made = reported.made
    with look() as drawing:
        axes = figures.accuracy(drawing, made).axes[0]
        swaps = figures.swaps(drawing, made).axes[0]
        gaps = figures.overfitting(drawing, made).axes[0]
    heights = {round(float(y), 6) for line in axes.lines for y in line.get_ydata()}
    assert heights >= {round(100 * row["mean"], 6) for row in made["curves"]
                       if (row["part"], row["quantity"]) == ("test", "accuracy")}
    assert [bar.get_width() for bar in swaps.patches] == [row["gain"] for row in figures.last_swaps(made)]
    assert [line.get_label() for line in gaps.lines] == ["calibration", "validation", "test"]


@pytest.mark.parametrize("given", [True, False], ids=["accuracy", "loss"])
def test_one_sparsity_is_shown_as_a_bar_a_method(problem, given):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from optprune_fast.report import figures
    from optprune_fast.report.document import document
    from optprune_fast.report.judges import Judges
    from optprune_fast.report.runs import in_order
    from optprune_fast.report.style import look

    runs = in_order(problem.results[2:])
    judges = Judges(runs, problem.nets, None, None, problem.test, None) if given else Judges(runs, *[None] * 5)
    made = document(runs, judges)
    with look() as drawing:
        axes = figures.accuracy(drawing, made).axes[0]
    wanted = {row["method"]: (100 if given else 1) * row["mean"] for row in made["curves"]
              if {key: row[key] for key in made["headline"]} == made["headline"]}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(wanted)
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(list(wanted.values()))


def test_strategies_can_be_told_apart():
    from optprune_fast.report.style import COLORS, DARK, MARKERS, STYLES, style
    from optprune_fast.search import STRATEGIES

    names = [name for name in (*STYLES, *STRATEGIES) if name != "optimized"]  # what the demo calls the best search
    assert len({style(name) for name in names}) == len(set(names))
    assert {*COLORS, *(color for color, _ in STYLES.values())} <= DARK.keys()
    assert len(MARKERS) == len(set(MARKERS)) == len(COLORS) + 1


def test_without_model_and_data_the_parts_are_left_out_and_the_page_says_what_would_show_them(problem, reported,
                                                                                              tmp_path):
    stale = tmp_path / "swaps.png"
    stale.write_bytes(b"of an earlier report")
    page = Reader(report(problem.results[0], tmp_path).read_text())
    assert [i for i in page.ids if i in FIGURES] == WITHOUT_DATA
    assert page.headings[-1] == "What is not here"
    assert not stale.exists()
    assert {path.stem for path in tmp_path.glob("*.png")} == set(WITHOUT_DATA)
    assert not list(tmp_path.glob(".*"))


def test_the_same_results_make_the_same_files_whatever_the_callers_settings_and_these_stay(problem, reported, tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        page = report(problem.results, tmp_path, problem.nets, problem.data, problem.test)
        assert dict(matplotlib.rcParams) == before
    names = sorted(path.name for path in reported.folder.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (page.parent / name).read_bytes() == (reported.folder / name).read_bytes(), name


# ---- errors


def test_without_matplotlib_the_extra_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"needs matplotlib.*\n.*optprune-fast\[plot\]"):
        report([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def other_objective(problem):
    return [problem.results[0], dataclasses.replace(problem.results[1], objective="error")], {}


def other_layout(problem):
    net, data = MLP([12, 8, 3]), problem.data
    return [problem.results[0], prune(net, data, 0.5, evaluations=2, progress=False)], {}


def shuffled(problem):
    order = torch.arange(len(problem.data[0])).flip(0)
    return problem.results, {"model": problem.nets, "data": (problem.data[0].flip(0) * 3, problem.data[1][order])}


def users_objective(problem):
    return dataclasses.replace(problem.results[0], objective="mine"), {"model": problem.nets}


WRONG = {
    "empty": (lambda p: ([], {}), ValueError, "needs at least one Result"),
    "no result": (lambda p: (["runs/demo"], {}), TypeError, r"Result\.load\(folder\)"),
    "objectives": (other_objective, ValueError, r"must have one objective(.|\n)*'cross_entropy', 'error'"),
    "layouts": (other_layout, ValueError, "must have one layout"),
    "other network": (lambda p: (p.results, {"model": MLP([12, 16, 3])}), ValueError, "no result was found for"),
    "data alone": (lambda p: (p.results, {"data": p.data}), ValueError, "without a network"),
    "other data": (shuffled, ValueError, "not the data of the search"),
    "user's objective": (users_objective, ValueError, "give it again: objective="),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_reported_is_refused_before_any_file_is_written(problem, tmp_path, case):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    make, error, text = WRONG[case]
    results, more = make(problem)
    with pytest.raises(error, match=text):
        report(results, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_the_folder_must_not_be_a_file(problem, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    (tmp_path / "out").write_text("")
    with pytest.raises(NotADirectoryError, match="needs a folder"):
        report(problem.results[0], tmp_path / "out")
