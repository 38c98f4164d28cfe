"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from optprune_fast.report.captions import CAPTIONS, TITLES
from optprune_fast.report.figures import last_swaps
from optprune_fast.report.style import DARK, variable
from optprune_fast.report.tables import Cell, grid

Document = dict[str, Any]


def page(made: Document, pictures: dict[str, str]) -> str:
    """The whole page. `pictures` are `<svg>` elements by the name of their figure."""
    sections = "\n".join(_section(made, name, picture) for name, picture in pictures.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in made["notes"])
    missing = f'<section><h2>What is not here</h2><ul class="notes">{notes}</ul></section>' if notes else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>optprune_fast: {escape(made["verdict"])}</title>
<style>
{_colors()}
{files("optprune_fast.report").joinpath("page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<header>
<p class="kicker">optprune_fast · pruning report</p>
<h1>{escape(made["verdict"])}</h1>
{_facts(made)}
</header>
{sections}
{_runs(made)}
{missing}
<footer>Made by optprune_fast {escape(made["made_by"])} for {len(made["runs"])} results; layout sha256
{made["layout_digest"]}. Every number of this page is in <code>report.json</code> and <code>report.csv</code>.</footer>
</main>
</body>
</html>
"""


def _colors() -> str:
    light = "".join(f"{variable(color)}:{color};" for color in DARK)
    dark = "".join(f"{variable(color)}:{other};" for color, other in DARK.items())
    return (f":root{{--ground:#f3f5f7;{light}}}\n@media screen and (prefers-color-scheme: dark)"
            f"{{:root{{--ground:#0f141a;{dark}}}}}")


def _facts(made: Document) -> str:
    runs = made["runs"]
    small = sum(run["kept_small"] for run in runs) / max(1, sum(run["budget"] for run in runs))
    facts = {"prunable weights": f"{made['weights']:,}", "runs": str(len(runs)),
             "networks": str(len({run["base_digest"] for run in runs})),
             "small among the kept": f"{small:.0%}",
             "evaluations": f"{sum(run['evaluations'] for run in runs):,}",
             "search time": _duration(sum(run["seconds"] for run in runs))}
    inside = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{inside}</dl>'


def _duration(seconds: float) -> str:
    """
    >>> _duration(7.31), _duration(125), _duration(9000)
    ('7.3 s', '2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _section(made: Document, name: str, picture: str) -> str:
    tables = {"accuracy": _first, "overfitting": _others, "swaps": _swaps, "densities": _layers}
    table = tables[name](made) if name in tables else ""
    return (f'<section id="{name}"><h2>{escape(TITLES[name])}</h2>'
            f'<figure><div role="img" aria-label="{escape(TITLES[name])}">{picture}</div>'
            f"<figcaption>{escape(CAPTIONS[name])}</figcaption></figure>{table}</section>")


def _first(made: Document) -> str:
    return _methods(made, [made["headline"]["part"]])


def _others(made: Document) -> str:
    return _methods(made, [part for part in ("validation", "calibration") if part != made["headline"]["part"]])


def _methods(made: Document, parts: Sequence[str]) -> str:
    """A table for each quantity that was measured on these parts of the data."""
    tables = []
    there = dict.fromkeys((row["part"], row["quantity"]) for row in made["curves"])
    for part, quantity in (key for part in parts for key in there if key[0] == part):
        cells = {(row["sparsity"], row["method"]): Cell(row["mean"], row["spread"], row["runs"])
                 for row in made["curves"] if (row["part"], row["quantity"]) == (part, quantity)}
        header, rows = grid(cells, percent=quantity == "accuracy")
        tables.append(_table(f"{part} {quantity}", header, rows))
    return "".join(tables)


def _layers(made: Document) -> str:
    rows = [[row["layer"], f"{100 * made['runs'][row['run']]['sparsity']:g} %", "×".join(map(str, row["shape"])),
             str(row["weights"]), str(row["kept"]), str(row["kept_magnitude"]), str(row["kept_small"]),
             f"{row['density']:.2%}", f"{row['density_magnitude']:.2%}"]
            for row in made["layers"] if row["run"] in made["shown"]]
    return _table("The same in numbers", ["layer", "sparsity", "shape", "weights", "kept", "by magnitude", "kept small",
                                          "density", "by magnitude"], rows)


def _swaps(made: Document) -> str:
    found = last_swaps(made)
    run = made["runs"][found[0]["run"]]
    rows = [[f"{row['layer']} {row['position']}", f"{row['value']:+.4f}", str(row["rank"]),
             _number(row["gain"]), _number(row["gain_alone"]), _number(row["gain_validation"])] for row in found]
    return _table(f"Run {run['run']}: {run['method']}, {100 * run['sparsity']:g} % sparsity, seed {run['seed']}; "
                  f"{run['budget']} of {made['weights']} weights kept",
                  ["weight", "value", "rank by |w|", "exchanged", "dropped", "exchanged, validation"], rows)


def _runs(made: Document) -> str:
    rows = [[run["method"], str(run["run"]), f"{100 * run['sparsity']:g} %", str(run["seed"]), str(run["budget"]),
             str(run["kept_small"]), _number(run["calibration"]), _number(run["fitness"]), _number(run["baseline"]),
             str(run["evaluations"]), f"{run['seconds']:.1f}", run["base_digest"][:8]]
            for run in made["runs"]]
    header = ["method", "run", "sparsity", "seed", "kept", "small", "calibration", "validation", "magnitude",
              "evaluations", "seconds", "network"]
    parts = ", ".join(dict.fromkeys(run["held_out"] for run in made["runs"]))
    return (f'<section id="runs"><h2>Every run</h2><p>Losses are {escape(made["objective"])}. Validation: '
            f"{escape(parts)}; the mask was chosen by it. Magnitude: of magnitude pruning, on the same samples.</p>"
            f"{_table('', header, rows)}</section>")


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
