"""One worker process, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Self

from sitq.worker import orders
from sitq.worker.vitals import PATIENCE, ProcessVitals


class Child:
    """A worker process: it is told what to do over a socket, and says there what it has done.

    It is a fresh interpreter in a process group of its own, so that Ctrl-C in a terminal reaches only the
    supervisor.

    Attributes:
        worker: The id under which it claims tasks.
        pid: Its process id.
        grace: Seconds that its tasks get to end; None until it is ready.
        ended: Whether it said that nothing runs there any more.
        retiring: Set when it has said that it claims nothing more.
    """

    def __init__(self, worker: str, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self.worker = worker
        self.pid = process.pid
        self.grace: float | None = None
        self.ended = False
        self.retiring = asyncio.Event()
        self._process = process
        self._socket = ours
        self._began = time.monotonic()
        self._alive: tuple[float, bool, float, bool] | None = None

    @classmethod
    async def start(cls, command: Sequence[str], worker: str) -> Self:
        """Start a process: `command`, and the options that make it a supervised one."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the socket module's own
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    f"--worker-id={worker}",
                    f"--supervised={theirs.fileno()}",
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
        except BaseException:
            ours.close()
            raise
        return cls(worker, process, ours)

    async def live(self, heard: Callable[[Child, str, str], None]) -> int:
        """Pass on what it says until it is gone.

        Answers its exit code, or the negative number of the signal that killed it.
        """
        listening = asyncio.create_task(self._listen(heard))
        try:
            code = await self._process.wait()
            # What it said last is still in the socket, unless a process that it left behind keeps that open.
            await asyncio.wait([listening], timeout=0.1)
            return code
        finally:
            listening.cancel()
            self._socket.close()

    async def _listen(self, heard: Callable[[Child, str, str], None]) -> None:
        loop = asyncio.get_running_loop()
        rest = b""
        with contextlib.suppress(OSError):
            while received := await loop.sock_recv(self._socket, 4096):
                *lines, rest = (rest + received).split(b"\n")
                for each in lines:
                    word, about = orders.parse(each)
                    if word == orders.READY:
                        self.grace = float(about)
                    elif word == orders.ENDED:
                        self.ended = True
                    elif word == orders.RETIRING:
                        self.retiring.set()
                    elif word == orders.ALIVE:
                        connected, claim, stuck = about.split()
                        self._alive = time.monotonic(), connected == "1", float(claim), stuck == "1"
                    heard(self, word, about)

    def tell(self, word: str, about: str = "") -> None:
        """Send it an order. One that is gone, or that no longer listens, does not get it."""
        with contextlib.suppress(OSError):
            self._socket.send(orders.line(word, about))

    def stop(self, word: str) -> None:
        """Order it to stop. One that is not ready has claimed nothing: it need not finish its imports."""
        self.tell(word)
        if not self.ready:
            self._signal(signal.SIGTERM if word == orders.STOP else signal.SIGKILL)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # A pid is not given away before asyncio has reaped it, and then the return code is set.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def vitals(self) -> ProcessVitals:
        """How it is, by what it said last; from any thread."""
        alive = self._alive
        if alive is None:
            return ProcessVitals(pid=self.pid, worker=self.worker, started=self.ready)
        at, connected, claim, stuck = alive
        silent = time.monotonic() - at
        return ProcessVitals(
            pid=self.pid,
            worker=self.worker,
            started=True,
            connected=connected and silent <= PATIENCE,
            last_claim=None if claim < 0 else claim + silent,
            stuck=stuck,
        )

    @property
    def ready(self) -> bool:
        """Whether it has opened its store and begun to claim."""
        return self.grace is not None

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began


def cause(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
