"""The study's rows as tables: for each network one to read, and one of everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.study.networks import NETWORKS
from benchmarks.study.plan import CORE, DENSE, MAGNITUDE, OTHER_SEED, RANDOM
from benchmarks.study.summary import Summary, summaries
from optprune_fast.bench import markdown
from optprune_fast.bench.table import text

HEADER = ("method", "sparsity", "limit", "tuned, epochs", "networks", "test accuracy", "below dense", "won back",
          "beyond magnitude", "p", "better on", "kept small", "calibration loss", "validation loss", "search, s",
          "evaluations", "screened", "gradient passes")


def section(documents: Sequence[Mapping[str, Any]]) -> str:
    """The tables of all documents, one after another."""
    return "\n\n".join(map(_section, documents))


def _section(document: Mapping[str, Any]) -> str:
    found = summaries(document["rows"])
    parts = []
    for name in dict.fromkeys(s.network for s in found):
        own = [s for s in found if s.network == name]
        dense = next(s for s in own if s.method == DENSE and not s.tuned)
        parts += [f"**{NETWORKS[name].title if name in NETWORKS else name}**, {_count(dense.n, 'network')}, dense "
                  f"{100 * dense.mean:.2f}{_spread(dense)} %", *_compact(own), _everything(own)]
    return "\n\n".join([*parts, _from_where(document)])


def _compact(own: Sequence[Summary]) -> Iterable[str]:
    """A table each without and with fine-tuning and each limit: a row a method, a column a sparsity."""
    fixed = [s for s in own if not s.limit]
    limits = list(dict.fromkeys(s.limit for s in own if s.limit)) or [""]
    sparsities = sorted({s.sparsity for s in own if s.method != DENSE})
    for tuned in dict.fromkeys(s.tuned for s in own):
        for limit in limits:
            shown = [s for s in [*fixed, *own] if s.tuned == tuned and (s.limit == limit or not s.limit)]
            if limit and not any(s.limit for s in shown):  # that bake-off was not tuned
                continue
            rows = []
            for name in dict.fromkeys(label(s) for s in shown if s.method != DENSE):
                at = {s.sparsity: s for s in shown if label(s) == name}
                rows.append([name, *(_accuracy(at.get(sparsity)) for sparsity in sparsities)])
            head = [f"{limit or 'no search'}, {_count(tuned, 'epoch') + ' of fine-tuning' if tuned else 'not tuned'}",
                    *(f"{100 * sparsity:g} %" for sparsity in sparsities)]
            yield markdown(head, rows)


def _everything(own: Sequence[Summary]) -> str:
    rows = [[label(s), f"{100 * s.sparsity:g} %", s.limit, str(s.tuned), str(s.n), f"{100 * s.mean:.2f}{_spread(s)}",
             f"{100 * s.below_dense:.2f}", text(s.won_back, "{:.3f}"), text(s.gain and 100 * s.gain, "{:+.2f}"),
             text(s.p, "{:.2g}"), f"{s.better} of {s.n}" if s.gain is not None else "", f"{100 * s.kept_small:.0f} %",
             f"{s.calibration_loss:.4f}", f"{s.validation_loss:.4f}", text(s.seconds, "{:.1f}"),
             text(s.evaluations, "{:.0f}"), text(s.screened, "{:.0f}"), text(s.gradient_passes, "{:.0f}")] for s in own]
    return f"<details><summary>everything measured</summary>\n\n{markdown(HEADER, rows)}\n\n</details>"


def label(s: Summary) -> str:
    names = {DENSE: "dense", MAGNITUDE: "magnitude", OTHER_SEED: "magnitude of another seed",
             RANDOM: f"random small, as many as {s.of}"}
    core = f", {100 * (1 - s.small):.0f} % fixed as core" if s.small == CORE else ""
    return names.get(s.method, f"**{s.method}**") + core


def _accuracy(s: Summary | None) -> str:
    return "" if s is None else f"{100 * s.mean:.2f}{_spread(s)} ({-100 * s.below_dense:+.1f})"


def _spread(s: Summary) -> str:
    return "" if s.spread is None else f" ± {100 * s.spread:.2f}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _from_where(document: Mapping[str, Any]) -> str:
    machine, rows = document["machine"], document["rows"]
    loads = [row["load"] for row in rows if row["load"] is not None]
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in rows))
    load = f"load {min(loads):g} to {max(loads):g} while it ran" if loads else "load unknown"
    return (f"Test accuracy in per cent, mean ± sample standard deviation, in brackets points from dense. "
            f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']} ({machine['torch_uses']}), "
            f"{_count(machine['threads'], 'thread')}, {load}, {machine['date'][:10]}, commit {commits}; "
            f"`python -m benchmarks.study.run`.")
