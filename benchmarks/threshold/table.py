"""The rows of `run` as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.threshold.cases import BY_SIZE, EVERY, LISTS
from optprune_fast.bench import markdown
from optprune_fast.bench.table import milliseconds

Row = Mapping[str, Any]
HEADER = ("case", "n", "way", "ms", "lowest to highest", "a read, ms", "reads", "processor time of wall time")


def cells(row: Row) -> list[str]:
    return [row["case"], f"{row['n']:,}", row["way"], milliseconds(row["median_s"]),
            f"{milliseconds(row['lowest_s'])} to {milliseconds(row['highest_s'])}", milliseconds(row["floor_s"]),
            f"{row['ratio']:.2f}", f"{row['cpu_of_wall']:.2f}"]


def by_size(rows: Sequence[Row]) -> str:
    """A row a way, a column an n: ms, and how many times as long as ours."""
    own = [row for row in rows if row["case"] == BY_SIZE]
    sizes = sorted({row["n"] for row in own})
    at = {(row["way"], row["n"]): row for row in own}
    table = [["a read of the weights", *(milliseconds(at["native", n]["floor_s"]) for n in sizes)]]
    for way in EVERY:
        texts = []
        for n in sizes:
            row = at.get((way, n))
            times = "" if row is None or way == "native" else f" ({row['median_s'] / at['native', n]['median_s']:.3g}×)"
            texts.append("" if row is None else milliseconds(row["median_s"]) + times)
        table.append([f"**{way}**" if way in ("native", "numba") else way, *texts])
    return markdown(["ms (times ours)", *(f"n = {n:,}" for n in sizes)], table)


def bars(document: Mapping[str, Any]) -> str:
    """What was asked of it, what was measured, and whether that is enough: losses too."""
    rows, lines = document["rows"], []
    large = sorted({row["n"] for row in rows if row["case"] == "one tensor"})
    for n in large:
        near = {(row["case"], row["way"]): row for row in rows if 0.9 * n < row["n"] < 1.1 * n}
        one = near["one tensor", "native"]

        def add(what: str, name: str, most: float, of: Callable[[Row], float], n: int = n,
                near: Mapping[tuple[str, str], Row] = near) -> None:
            if (name, "native") in near:
                got = of(near[name, "native"])
                lines.append([what, f"{n:,}", f"at most {most:g}", f"{got:.2f}", "yes" if got <= most else "**no**"])

        def reads(row: Row) -> float:
            return float(row["ratio"])

        def against(row: Row, one: Row = one) -> float:
            """Both beside reads of their own, so that a busy machine cancels out."""
            return float(row["ratio"] / one["ratio"])

        for name in ("one tensor", "half is kept", "rows of 1,000"):
            add(f"reads, {name}", name, 1.3, reads)
        for name in ("bfloat16", "float16"):
            add(f"reads, {name}", name, 1.6, reads)
        for name in ("rows of 27", "rows of 9"):
            add(f"reads, {name}", name, 2.5, reads)
        add("200 tensors beside one", "200 tensors", 1.3, against)
        add("a pool of 10 % beside none", "a pool of 10 %", 1.35, against)
        for name in ("half are zero, 75 % kept", "half are zero, the others kept"):
            add(f"{name}, beside distinct weights", name, 1.5, against)
        if ("one tensor", "numba") in near:
            got = near["one tensor", "numba"]["ratio"] / one["ratio"]
            lines.append(["Numba beside C++", f"{n:,}", "at most 4", f"{got:.2f}", "yes" if got <= 4 else "**no**"])
    lines += _rivals(rows)
    for row in document["memory"]:
        if row["way"] == "native":
            most = 0.035 if row["dtype"] == "float32" else 0.07
            lines.append([f"extra memory of the weights', {row['dtype']}", f"{row['n']:,}", f"at most {most:.1%}",
                          f"{row['share']:.2%}", "yes" if row["share"] <= most else "**no**"])
    return markdown(["", "n", "bar", "measured", "reached"], lines)


def _rivals(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    own = {(row["way"], row["n"]): row["median_s"] for row in rows if row["case"] == BY_SIZE}
    for n in sorted({n for _, n in own if n >= 900_000}):
        for name, ways, least in (("NumPy", ["np.partition"], 7), ("torch", [w for w in EVERY if "torch" in w], 50)):
            found = [own[way, n] for way in ways if (way, n) in own]
            if found and ("native", n) in own:
                got = min(found) / own["native", n]
                lines.append([f"times faster than the best of {name}", f"{n:,}", f"at least {least}", f"{got:.3g}",
                              "yes" if got >= least else "**no**"])
    return lines


def lists(rows: Sequence[Row]) -> str:
    """A row a list and a way; nothing where none was measured."""
    table = [[row["case"], f"{row['n']:,}", row["way"], milliseconds(row["median_s"]),
              f"{1e6 * row['median_s'] / row['tensors']:.2g}"] for row in rows if row["case"] in LISTS]
    return markdown(["list", "n", "way", "ms", "µs a tensor"], table) if table else ""


def memory(rows: Sequence[Row]) -> str:
    """A row a way: memory beyond weights and words, as a share of the weights'."""
    table = [[row["way"], row["dtype"], f"{row['n']:,}", f"{row['extra_bytes'] / 2**20:.1f}", f"{row['share']:.2%}"]
             for row in rows]
    return markdown(["way", "weights", "n", "MiB", "of the weights"], table)
