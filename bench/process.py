"""A worker process, seen from outside."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_PATIENCE: Final = 10.0
"""Seconds that a worker gets to stop."""


class WorkerProcess:
    """A `bench.worker` from its start until it is stopped.

    Args:
        arguments: Of its command line.
    """

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "bench.worker", *arguments])

    def cpu(self) -> float:
        """The CPU seconds that all its threads have used."""
        return cpu_seconds(self._process.pid)

    def rss(self) -> float:
        """Its resident memory in MiB."""
        return rss(self._process.pid)

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker process ended with exit code {self._process.returncode}")

    async def stop(self) -> None:
        """Stop it, the hard way if it does not listen."""
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, _PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def cpu_seconds(process: int) -> float:
    """The CPU seconds of all threads of a process, to the nanosecond (Linux: /proc counts in hundredths)."""
    # What clock_getcpuclockid(3) gives for a process; Python offers it for threads only.
    return time.clock_gettime(~process << 3 | 2)


def rss(process: int) -> float:
    """The resident memory of a process in MiB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {process} is gone")
