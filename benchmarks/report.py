"""Writes the generated sections of docs/RESULTS.md and the plots beside it from benchmarks/results/*.json.

    python -m benchmarks.report

A section lies between `<!-- name table -->` and `<!-- /name table -->`; what is outside stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import plots, store
from benchmarks.deploy import disk, latency, networks
from benchmarks.deploy import memory as deploy_memory
from benchmarks.moves import run as moves
from benchmarks.study import table as study
from benchmarks.threshold import table as threshold
from optprune_fast.bench import markdown
from optprune_fast.bench.table import milliseconds, text

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
Document = Mapping[str, Any]
Row = Mapping[str, Any]


def from_where(document: Document, command: str) -> str:
    """The line below a table: who measured it."""
    machine = document["machine"]
    return (f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']} ({machine['torch_uses']}), "
            f"load {machine['load'][0] if machine['load'] else 'unknown'} before, {machine['date'][:10]}, commit "
            f"{machine['commit']}; `python -m {command}`.")


def group(rows: Sequence[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def masked_forward(documents: Sequence[Document]) -> str:
    """The tables of all documents, one after another, and the picture."""
    return "\n\n".join([*map(_tables, documents), f"![speed-up against density]({plots.SPEED_UP})"])


def _tables(document: Document) -> str:
    """A table for each network, size and number of threads: a row a rival, a column a density."""
    parts = []
    for (network, P, B, threads), rows in group(document["rows"], "network", "P", "B", "threads").items():
        densities = list(dict.fromkeys(row["density"] for row in rows))
        table = []
        for (rival,), own in group(rows, "rival").items():
            if own[0]["declined"]:
                continue
            at = {row["density"]: row for row in own}
            table.append([f"**{rival}**" if own[0]["ours"] else rival,
                          *(milliseconds(at[density]["median_s"]) for density in densities),
                          memory(own)])
            if own[0]["ours"]:
                table.append(["× the best torch rival", *(text(at[d]["ratio"], "{:.1f}") for d in densities), ""])
                table.append(["useful GFLOP/s", *(text(at[d]["useful_gflops"], "{:.1f}") for d in densities), ""])
                table.append(["of the measured peak", *(text(at[d]["share_of_peak"], "{:.0%}") for d in densities), ""])
                table.append(["of the cache's bandwidth", *(text(at[d]["share_of_bandwidth"], "{:.0%}")
                                                            for d in densities), ""])
        head = ["ms", *(f"D = {density:g}" for density in densities), "memory, MiB"]
        plural = "s" if threads > 1 else ""
        parts += [f"**{network}**, P = {P}, B = {B}, {threads} thread{plural}", markdown(head, table)]
    peaks = {row["threads"]: row["peak_gflops"] for row in document["rows"]}
    measured = ", ".join(f"{peak:.0f} GFLOP/s on {threads}" for threads, peak in peaks.items())
    where = from_where(document, "benchmarks.masked_forward.run")
    bandwidth = max(row["bandwidth_gb"] for row in document["rows"])
    parts.append(f"Medians; peak: {document['peak']}, {measured}. Cache: 256 KiB read again and again, "
                 f"{bandwidth:.0f} GB/s a thread, against one float read a multiply-add, which is what skipping zeros "
                 f"asks for. {where}")
    return "\n\n".join(parts)


def speed(documents: Sequence[Document]) -> str:
    """A row a network, a column a density: how many times faster than the best torch rival, on one thread."""
    rows = [row for document in documents for row in document["rows"]
            if row["ours"] and row["ratio"] and row["threads"] == 1]
    densities = sorted({row["density"] for row in rows}, reverse=True)
    table = []
    for (network, P, B), own in group(rows, "network", "P", "B").items():
        at = {row["density"]: text(row["ratio"], "{:.1f}×") for row in own}
        table.append([f"{network}, {P} masks, {B} samples", *(at.get(density, "") for density in densities)])
    head = ["weights kept", *(f"{100 * density:g} %" for density in densities)]
    machine = documents[-1]["machine"]
    commits = dict.fromkeys(str(document["machine"]["commit"]) for document in documents)
    where = from_where({"machine": {**machine, "commit": " and ".join(commits)}},
                       "benchmarks.masked_forward.run --compile")
    return f"{markdown(head, table)}\n\n{where}"


def memory(rows: Sequence[Row]) -> str:
    known = [row["memory_bytes"] for row in rows if row["memory_bytes"] is not None]
    return f"{max(known) / 2**20:.0f}" if known else ""


def cost(documents: Sequence[Document]) -> str:
    document = documents[-1]
    table = [[row["network"], f"{row['over']} = {', '.join(map(str, row['at']))}", f"{1000 * row['slope_s']:.4f}",
              f"{1000 * row['intercept_s']:.2f}", f"{row['r2']:.4f}"] for row in document["rows"]]
    return (markdown(["network", "over", "ms for one more", "ms at nought", "R²"], table) + "\n\n"
            + from_where(document, "benchmarks.masked_forward.fit_cost") + f"\n\n![cost by size]({plots.COST})")


def swaps(documents: Sequence[Document]) -> str:
    document = documents[-1]
    table = markdown(moves.HEADER, [moves.cells(row) for row in document["rows"]])
    return f"{table}\n\n{from_where(document, 'benchmarks.moves.run')}"


def bytes_on_disk(documents: Sequence[Document]) -> str:
    document = documents[-1]
    table = markdown(disk.HEADER, [disk.cells(row) for row in document["rows"]])
    return f"{table}\n\n{from_where(document, 'benchmarks.deploy.disk')}"


def top_k(documents: Sequence[Document]) -> str:
    document = documents[-1]
    how = (f"Processor time of one thread, medians of {document['options']['rounds']} calls or as many as 4 s hold, "
           f"each between two reads; a read is {document['floor']}; NumPy: {document['numpy']}. Load "
           f"{document['machine']['load_after'][0]} after.")
    return "\n\n".join(filter(None, [
        threshold.by_size(document["rows"]), f"![time by n]({plots.TOP_K})", threshold.lists(document["rows"]),
        threshold.bars(document), threshold.memory(document["memory"]), how,
        from_where(document, "benchmarks.threshold.run")]))


def of_each_processor(documents: Sequence[Document], section: Callable[[Document], str],
                      subject: Callable[[Document], object] = lambda document: None) -> str:
    """The newest of each processor and subject, the oldest first: what layers gain depends on the processor."""
    newest = {(document["machine"]["processor"], subject(document)): document for document in documents}
    return "\n\n".join(section(document) for document in newest.values())


def latencies(documents: Sequence[Document]) -> str:
    def of_one(document: Document) -> str:
        tables = [f"**{cache}**\n\n{latency.table(document['rows'], cache)}" for cache in latency.CACHES
                  if any(row["cache"] == cache for row in document["rows"])]
        return "\n\n".join([*tables, from_where(document, "benchmarks.deploy.latency")])

    return f"{of_each_processor(documents, of_one)}\n\n![sparse layers against dense ones]({plots.BREAK_EVEN})"


def whole_networks(documents: Sequence[Document]) -> str:
    return of_each_processor(documents, lambda document: f"{networks.table(document['rows'])}\n\n"
                             f"{from_where(document, 'benchmarks.deploy.networks')}",
                             subject=lambda document: networks.named(document["rows"]))


def resident(documents: Sequence[Document]) -> str:
    document = documents[-1]
    return f"{deploy_memory.table(document['rows'])}\n\n{from_where(document, 'benchmarks.deploy.memory')}"


Section = Callable[[Sequence[Document]], str]
SECTIONS: dict[str, Section] = {"masked_forward": masked_forward, "cost": cost, "moves": swaps, "disk": bytes_on_disk,
                                "deploy_latency": latencies, "deploy_networks": whole_networks,
                                "deploy_memory": resident,
                                "study": study.section, "threshold": top_k}


EACH_HAS_A_PLACE = ("deploy_latency", "deploy_networks", "study")


def filled(page: str, name: str, content: str) -> str:
    """The page with the section's content replaced; `ValueError` if it has no such section.

    >>> filled("a <!-- x table -->old<!-- /x table --> b", "x", "new").splitlines()
    ['a <!-- x table -->', 'new', '<!-- /x table --> b']
    """
    begin, end = f"<!-- {name} table -->", f"<!-- /{name} table -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"the page needs {begin} and {end}, once each")
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def newest(name: str, folder: Path) -> list[Document]:
    """The documents of a kind that the latest one's processor measured on its day, oldest first: one run of a benchmark
    may fill several, and each names its commit. All of them where each has a place of its own."""
    documents: list[Document] = list(store.read(name, folder))
    if name in EACH_HAS_A_PLACE:
        return documents
    return [document for document in documents if _where_and_when(document) == _where_and_when(documents[-1])]


def _where_and_when(document: Document) -> tuple[str, str]:
    machine = document["machine"]
    return machine["processor"], machine["date"][:10]


def main(folder: Path = store.FOLDER, docs: Path = DOCS, readme: Path | None = None,
         only: Sequence[str] = tuple(SECTIONS)) -> list[str]:
    """The newest files of each kind, or of some; returns the names of the sections that were written. readme: gets a
    summary."""
    page = docs / "RESULTS.md"
    content, found = page.read_text(), {name: newest(name, folder) for name in only}
    written = [name for name, documents in found.items() if documents]
    for name in written:
        content = filled(content, name, SECTIONS[name](found[name]))
    page.write_text(content)
    if readme is not None and "masked_forward" in written:
        readme.write_text(filled(readme.read_text(), "speed", speed(found["masked_forward"])))
    plots.draw({name: [{**row, "processor": document["machine"]["processor"]} for document in found[name]
                       for row in document["rows"]] for name in written}, docs)
    return written


if __name__ == "__main__":
    print("written:", ", ".join(main(readme=README)) or "nothing, there are no results")
