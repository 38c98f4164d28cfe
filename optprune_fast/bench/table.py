"""The rows of `compare` as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HEADER = ("rival", "network", "D", "P", "B", "threads", "ms", "lowest to highest", "times best torch",
          "useful GFLOP/s", "of peak", "memory, MiB", "error")


def cells(rows: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Texts under `HEADER`; what declined says why, what is unknown is empty."""
    return [_cells(row) for row in rows]


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = f"{row['rival']} ({row['detail']})" if row["detail"] else row["rival"]
    where = [row["network"], f"{row['density']:g}", str(row["P"]), str(row["B"]), str(row["threads"])]
    if row["median_s"] is None:
        return [name, *where, row["declined"] or "", *[""] * 6]
    star = " *" if row["rival"] == row["best_torch"] else ""
    return [name + star, *where, milliseconds(row["median_s"]),
            f"{milliseconds(row['lowest_s'])} to {milliseconds(row['highest_s'])}",
            text(row["ratio"], "{:.2f}"), text(row["useful_gflops"], "{:.2f}"), text(row["share_of_peak"], "{:.1%}"),
            text(row["memory_bytes"] and row["memory_bytes"] / 2**20, "{:.0f}"), text(row["error"], "{:.1e}")]


def text(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def milliseconds(seconds: float) -> str:
    """Three digits.

    >>> milliseconds(0.0012345), milliseconds(1.2345)
    ('1.23', '1234')
    """
    value = 1000 * seconds
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers.

    >>> print(markdown(["a", "b"], [["x", "1"]]))
    | a | b |
    |---|---:|
    | x | 1 |
    """
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
