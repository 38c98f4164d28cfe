"""A process that runs stages: one that is late is ended, one that has died leaves no broken GPU context behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from gpu_check.stage import Device, Died, Ended, Found, Late, Stage, told

_spawn = multiprocessing.get_context("spawn")  # a GPU's context does not survive a fork


class Worker:
    """Stages in one process, one after another; the next one gets another process if this one cannot go on."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def found(self, stage: Stage, device: Device, seconds: float) -> Iterator[Found]:
        """What the stage yields, as it comes; `Late` last if that took too long."""
        until = time.monotonic() + seconds
        connection = self._ready()
        with contextlib.suppress(ConnectionError):  # it has ended since, which the next line but one finds
            connection.send((stage, device))
        while (left := until - time.monotonic()) > 0 and connection.poll(left):
            try:
                found = connection.recv()
            except (EOFError, ConnectionError):
                found = Died(f"its process ended: {self._how()}")
            if isinstance(found, Died):
                self.stop()
            yield found
            if isinstance(found, (Ended, Died)):
                return
        self.stop()
        yield Late()

    def stop(self) -> None:
        """End the process and all that it has started."""
        if self._process is not None and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):  # has ended, or does not lead its group yet
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join(5)
        self._process = None

    def _ready(self) -> Connection:
        if self._process is None or self._connection is None:
            self._connection, its_end = _spawn.Pipe()
            self._process = _spawn.Process(target=serve, args=(its_end,))
            self._process.start()
            its_end.close()
        return self._connection

    def _how(self) -> str:
        assert self._process is not None
        self._process.join(5)
        code = self._process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def serve(connection: Connection) -> None:
    """Run what is sent, until the other end is gone."""
    os.setsid()  # leads a group, to be ended with all that a stage has started
    while True:
        try:
            stage, device = connection.recv()
        except EOFError:
            return
        for found in told(stage, device):
            connection.send(found)
