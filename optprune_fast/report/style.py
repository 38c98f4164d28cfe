"""Colours, markers and the look of every figure; matplotlib, the extra `plot`, is imported here and only when asked."""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optprune_fast.runtime.errors import message
from optprune_fast.search import STRATEGIES

INK, MUTED, LINE, PAPER = "#1c2733", "#5c6875", "#d8dde3", "#ffffff"
LARGE, SMALL, REST = "#1b6ca8", "#e07b1a", "#cfd5dc"

# Each colour of a figure on white, and what stands for it on a dark page. The series can be told apart with any of the
# common kinds of colour blindness, and each has its own marker.
DARK = {INK: "#e8edf2", MUTED: "#a3afbb", LINE: "#364250", PAPER: "#161d26", REST: "#465362", LARGE: "#64aee6",
        SMALL: "#f0a050", "#555555": "#b4bdc6", "#d1495b": "#f0808e", "#e0a030": "#e9b95c", "#2a9d8f": "#5cc9bb",
        "#8e5ea2": "#c497d8", "#7a5c3e": "#c3a07c", "#4fa3d1": "#9bd3f2", "#3b3b98": "#9a9af0", "#c06c9c": "#ea9cc8"}

STYLES = {"dense": ("#555555", "s"), "magnitude": ("#d1495b", "v"), "optimized": (LARGE, "o"),
          "random_small": ("#e0a030", "x"), "auto": (LARGE, "o")}
COLORS = ("#2a9d8f", "#8e5ea2", "#7a5c3e", "#4fa3d1", "#3b3b98", "#c06c9c")
MARKERS = "D^P<X>p"  # one more than there are colours: every pair comes before any comes again
PARTS = {"calibration": ("-", "o"), "validation": ("--", "D"), "test": (":", "^")}

RC = {"svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
      "axes.edgecolor": MUTED, "axes.labelcolor": MUTED, "axes.titlecolor": INK, "axes.titlesize": 11,
      "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.grid": True, "axes.axisbelow": True,
      "grid.color": LINE, "grid.linewidth": 0.8, "xtick.color": MUTED, "ytick.color": MUTED, "text.color": INK,
      "axes.facecolor": PAPER, "figure.facecolor": PAPER, "legend.frameon": False, "legend.fontsize": "small",
      "lines.linewidth": 1.8, "lines.markersize": 6}


def style(name: str) -> tuple[str, str, str]:
    """(colour, marker, line) of a method by its label: the same in every figure, and in every report of one version.

    A strategy that this package does not know takes one of the same styles by its name.

    >>> style("magnitude"), style("auto, small 0.3")
    (('#d1495b', 'v', '-'), ('#1b6ca8', 'o', '--'))
    """
    method, _, core = name.partition(",")
    if method in STYLES:
        color, marker = STYLES[method]
    else:
        number = list(STRATEGIES).index(method) if method in STRATEGIES else sum(method.encode())
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    return color, marker, "--" if core else "-"


def matplotlib_figure() -> Any:
    """`matplotlib.figure`: a Figure of its own needs no display, and leaves the caller's backend alone."""
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ValueError(message("plot", "needs matplotlib, which is not installed",
                                 'pip install "optprune-fast[plot]"')) from error


@contextmanager
def look() -> Iterator[Any]:
    """matplotlib with our settings, whatever the caller's are; these come back afterwards."""
    module = matplotlib_figure()
    matplotlib = importlib.import_module("matplotlib")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield module


def svg(figure: Any, name: str) -> str:
    """The figure as an `<svg>` element to stand in a page: colours are variables that the page sets.

    name: of the figure, unlike that of any other on the page: the names inside the picture derive from it
    """
    matplotlib = importlib.import_module("matplotlib")
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True,
                       metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    picture = text.getvalue()
    picture = picture[picture.index("<svg"):]
    # Of the page's own parser these need no declaration, and they are the only addresses in the file.
    picture = re.sub(r' xmlns(:\w+)?="[^"]*"', "", picture)
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.DOTALL)
    picture = re.sub(r'id="((?:figure|axes|patch|text|line2d|xtick|ytick|matplotlib\.axis|legend|\w+Collection)_\d+)"',
                     rf'id="{name}-\1"', picture)
    return re.sub("|".join(DARK), lambda match: f"var({variable(match[0])})", picture)


def variable(color: str) -> str:
    """The name of the page's variable for a colour: `#1b6ca8` is `--c1b6ca8`."""
    return f"--c{color[1:]}"

