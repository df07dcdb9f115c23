"""The supervisor: keeps worker processes alive, and frees the leases of those that die.

It never imports the application: each worker process does, in a fresh interpreter. So nothing that a task
does can harm the supervisor. The leases of a dead worker are freed by the processes that have the store open:
by those that live on, and by the one that takes its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from typing import Final

from sitq.ids import token
from sitq.policy.restart import Deaths
from sitq.worker import orders
from sitq.worker.child import Child, cause
from sitq.worker.exits import Exit
from sitq.worker.stopping import stop_signals
from sitq.worker.vitals import Health, report, together

_PATIENCE: Final = 10.0
"""Seconds beyond its grace after which a process that does not stop is killed."""

_LITTLE_PATIENCE: Final = 5.0
"""The same after a second signal, when there is no grace."""

logger = logging.getLogger("sitq.supervisor")


class Supervisor:
    """Runs a command in so many processes at once until a signal comes or, in a burst, until each has ended.

    Args:
        command: What runs one worker process; `Child.start` adds to it.
        processes: How many.
        burst: Whether a process that ended by itself is done.
    """

    def __init__(self, command: Sequence[str], processes: int, *, burst: bool = False) -> None:
        self._command = command
        self._processes = processes
        self._burst = burst
        self._children: set[Child] = set()
        self._dead: set[str] = set()
        """Workers whose leases nobody has confirmed to be freed."""
        self._proven = asyncio.Event()
        """One process is ready, so the application works; or there will be none."""
        self._stopping = asyncio.Event()
        self._order = orders.STOP
        self._exit = Exit.DONE
        self._group: asyncio.TaskGroup | None = None

    def health(self) -> Health:
        """How its processes are, for a health probe; from any thread."""
        processes = sorted((child.vitals() for child in tuple(self._children)), key=lambda each: each.pid)
        return report(together(processes), stopping=self._stopping.is_set(), processes=processes)

    async def run(self) -> Exit:
        """Supervise until all processes have ended; the exit code for it all."""
        loop = asyncio.get_running_loop()

        def hear(count: int) -> None:
            loop.call_soon_threadsafe(self._signalled, count)

        logger.info("starting %d worker processes", self._processes)
        with stop_signals(hear):
            async with asyncio.TaskGroup() as group:
                self._group = group
                for place in range(self._processes):
                    group.create_task(self._keep(place))
        logger.info("all worker processes have ended")
        return self._exit

    # -- one place -----------------------------------------------------------------------------------------

    async def _keep(self, place: int) -> None:
        """Keep a process at this place."""
        if place:  # what is wrong with the application is then said once, by the first process
            await self._proven.wait()
        deaths = Deaths()
        while not self._stopping.is_set():
            try:
                child = await self._start(place)
            except OSError as error:
                logger.error("no worker process can be started: %s", error)  # noqa: TRY400 - the system's limits
                deaths = deaths.after(0.0, ready=False)
            else:
                code = await self._life(child)
                if code is None or (code == Exit.RETIRED and child.ready and not self._stopping.is_set()):
                    deaths = Deaths()
                    continue
                if self._is_done(child, code):
                    return
                deaths = deaths.after(child.age, ready=child.ready)
            if deaths.hopeless:
                self._give_up(
                    Exit.FAILED, f"{deaths.unready} worker processes in a row died before they were ready"
                )
                return
            await self._rest(deaths.pause)

    async def _life(self, child: Child) -> int | None:
        """Its exit code, or None as soon as it claims nothing more: then another may begin beside it."""
        living = asyncio.create_task(child.live(self._heard))
        retiring = asyncio.create_task(child.retiring.wait())
        try:
            await asyncio.wait([living, retiring], return_when=asyncio.FIRST_COMPLETED)
        finally:
            retiring.cancel()
        if not living.done() and self._group is not None:
            self._group.create_task(self._see_off(child, living))
            return None
        code = await living
        self._gone(child, code)
        return code

    async def _see_off(self, child: Child, living: asyncio.Task[int]) -> None:
        self._gone(child, await living)

    async def _start(self, place: int) -> Child:
        child = await Child.start(
            self._command, f"{socket.gethostname()}-{os.getpid()}.{place}-{token()[:8]}"
        )
        self._children.add(child)
        if self._stopping.is_set():
            child.stop(self._order)
        return child

    def _gone(self, child: Child, code: int) -> None:
        self._children.discard(child)
        expected = child.ended or (self._stopping.is_set() and not child.ready)
        logger.log(
            logging.INFO if expected else logging.WARNING,
            "worker process %d (%s) %s after %.1f s",
            child.pid,
            child.worker,
            cause(code),
            child.age,
        )
        if child.ready and not child.ended:
            self._bury(child)

    def _is_done(self, child: Child, code: int) -> bool:
        """Whether nobody takes the place of this one."""
        if code == Exit.USAGE and not child.ready and not self._stopping.is_set():
            self._give_up(Exit.USAGE, "the worker processes cannot start, for the reason above")
        return self._stopping.is_set() or (self._burst and child.ended)

    def _give_up(self, code: Exit, why: str) -> None:
        logger.error("%s; stopping", why)
        self._exit = code
        self._stop()

    async def _rest(self, pause: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    # -- leases --------------------------------------------------------------------------------------------

    def _bury(self, child: Child) -> None:
        self._dead.add(child.worker)
        for each in self._children:
            if each.ready:
                each.tell(orders.FREE, child.worker)

    def _heard(self, child: Child, word: str, about: str) -> None:
        match word:
            case orders.READY:
                self._proven.set()
                for worker in self._dead:
                    child.tell(orders.FREE, worker)
                child.tell(orders.GO)
            case orders.FREED:
                self._dead.discard(about)
            case _:
                pass

    # -- stop ----------------------------------------------------------------------------------------------

    def _signalled(self, count: int) -> None:
        match count:
            case 1:
                logger.info("stopping: running tasks may end, a second signal hands them back at once")
                self._stop()
            case 2:
                logger.warning("stopping at once: running tasks are handed back")
                self._exit = Exit.AT_ONCE
                self._order = orders.STOP_NOW
                self._tell_to_stop(_LITTLE_PATIENCE)
            case _:
                self._kill()

    def _stop(self) -> None:
        self._stopping.set()
        self._proven.set()
        self._tell_to_stop(max((child.grace or 0.0 for child in self._children), default=0.0) + _PATIENCE)

    def _tell_to_stop(self, patience: float) -> None:
        for child in self._children:
            child.stop(self._order)
        asyncio.get_running_loop().call_later(patience, self._kill)

    def _kill(self) -> None:
        for child in self._children:
            logger.warning(
                "worker process %d (%s) did not stop in time and is killed", child.pid, child.worker
            )
            self._exit = self._exit or Exit.AT_ONCE
            child.kill()
