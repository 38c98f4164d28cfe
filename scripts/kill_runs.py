"""Kill journaled searches at random moments, hundreds of times: each must end bit for bit like one never killed.

    python scripts/kill_runs.py                  300 kills, every strategy that needs no other package in turn
    python scripts/kill_runs.py --kills 1000 --strategies auto swap --seed 7

Prints a line a search; exit code 1 if one ended differently. Needs `fork` and SIGKILL, so Linux or macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from types import TracebackType

import torch

from optprune_fast.search import STRATEGIES

# Imports once, then forks for each search that it reads, and answers with the child's number, what it found, "ended".
SERVER = """
    import json, os, sys, torch, optprune_fast as opf, optprune_fast.search.journal as journal
    journal.Journal.due = property(lambda self: True)

    def search(strategy, seed, path):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        x = torch.randn(400, 20)
        result = opf.prune(net, (x, (x @ torch.randn(20, 4)).argmax(1)), 0.8, evaluations=1500, backend="torch",
                           strategy=strategy, seed=seed, journal=path)
        print(result.mask.words.flatten().tolist(), result.fitness, result.evaluations, flush=True)

    for line in sys.stdin:
        child = os.fork()
        if not child:
            search(*json.loads(line))
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
"""


class Server:
    """Searches in processes of their own, which can be killed."""

    def __enter__(self) -> Server:
        self.process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SERVER)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.asks, self.answers = self.process.stdin, self.process.stdout
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 where: TracebackType | None) -> None:
        self.asks.close()
        self.process.wait()
        self.answers.close()

    def search(self, strategy: str, seed: int, journal: Path | None = None, kill_after: float | None = None) -> str:
        """What a search found, as text; "" if it was killed, after some seconds, before it ended."""
        self.asks.write(json.dumps([strategy, seed, None if journal is None else str(journal)]) + "\n")
        self.asks.flush()
        child = int(self.answers.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        lines = list(iter(self.answers.readline, "ended\n"))
        return lines[0] if lines else ""

    def killed(self, strategy: str, seed: int, journal: Path, most: int, moment: torch.Generator) -> tuple[str, int]:
        """What a search found that was killed at random moments and started again, and how often it was killed: `most`
        times, or fewer where it ended before."""
        for kills in range(most):
            found = self.search(strategy, seed, journal, 0.02 + 0.15 * float(torch.rand(1, generator=moment)))
            if found:
                return found, kills
        return self.search(strategy, seed, journal), most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="at least so many in all")
    parser.add_argument("--strategies", nargs="+", choices=["auto", *STRATEGIES], default=["auto", *STRATEGIES])
    parser.add_argument("--seed", type=int, default=0, help="of the moments, and of the first search")
    options = parser.parse_args()
    moment, kills, searches, wrong = torch.Generator().manual_seed(options.seed), 0, 0, 0
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        while kills < options.kills and searches < options.kills:  # some may end before any kill
            strategy = options.strategies[searches % len(options.strategies)]
            seed = options.seed + searches // len(options.strategies)
            journal = Path(folder, f"{searches}")
            whole = server.search(strategy, seed)
            found, own = server.killed(strategy, seed, journal, 20, moment)
            same = found == whole != ""
            kills, searches, wrong = kills + own, searches + 1, wrong + (not same)
            print(f"{strategy}, seed {seed}: {own} kills, {'the same bits' if same else 'OTHER BITS'}", flush=True)
    print(f"{searches} searches, {kills} kills, {wrong} ended differently")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
