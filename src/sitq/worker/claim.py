"""Claiming: how many tasks to take and when to look."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

import msgspec

from sitq.backends.base import Backend, Taken, Want
from sitq.exceptions import BackendError
from sitq.functions import python_version
from sitq.ids import token
from sitq.policy.race import keep_back
from sitq.record import SECOND, Record
from sitq.worker.leases import LeaseKeeper
from sitq.worker.processes import Processes
from sitq.worker.settings import Settings
from sitq.worker.shares import shares

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two questions to a store that is away, and up to half as much again."""

logger = logging.getLogger("sitq.worker")


class Claims:
    """A worker's claims, one after another, each repeated under its id until the store answered."""

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        keeper: LeaseKeeper,
        processes: Processes,
        left: set[str],
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._keeper = keeper
        self._processes = processes
        self._left = left
        self._unanswered: Want | None = None
        self._promised: int | None = None
        self._late = 0.0
        self.answered: float | None = None
        """When the store last answered a claim, by the monotonic clock."""

    async def take(self, limit: int, *, stopped: Callable[[], bool]) -> Taken | None:
        """Claim up to `limit` tasks; None when the worker was stopped before the store answered."""
        settings = self._settings
        want = Want(
            claim=token(),
            worker=settings.worker,
            queues=shares(settings.queues, limit),
            limit=limit,
            lease=settings.lease,
            python=python_version(),
            leave=self._leave(),
            reclaim=self._keeper.sure,
        )
        self._unanswered = want
        pause = _FIRST_PAUSE
        while True:
            try:
                with self._keeper.doubt.asking():
                    taken = await self._backend.take(want)
            except BackendError as error:
                if stopped():
                    return None
                # The holders of what ran out meanwhile could not renew it either.
                want = msgspec.structs.replace(want, reclaim=False)
                logger.warning("the store did not answer a claim, trying again: %s", error)
                await asyncio.sleep(pause * (0.5 + random.random()))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._unanswered = None
                self.answered = time.monotonic()
                return taken

    def _leave(self) -> frozenset[str]:
        """The functions to be left to others: those that are unknown, and those that could not start now."""
        if self._processes.free:
            return frozenset(self._left)
        return frozenset(self._left | self._processes.names)

    async def recover(self) -> list[Record]:
        """What a claim that was cut short may have claimed all the same."""
        want, self._unanswered = self._unanswered, None
        if want is None:
            return []
        try:  # repeated under its id it answers with what it claimed, and a limit of 0 claims nothing new
            again = await self._backend.take(msgspec.structs.replace(want, limit=0, queues=(), reclaim=False))
        except BackendError as error:
            logger.warning("what the last claim took is not known, its leases will run out: %s", error)
            return []
        return again.records

    def idle_time(self, taken: Taken) -> float:
        """Seconds until a look is worth it though nothing hints at news.

        Spread by a fifth, so that workers which started together do not look together, and by more for one
        that others forestalled (see `sitq.policy.race`).
        """
        self._late = keep_back(
            self._late,
            found=bool(taken.records),
            promised=self._promised,
            now=taken.now,
            following=taken.next,
        )
        self._promised = taken.next
        longest = self._settings.poll * (0.9 + 0.2 * random.random())
        if taken.next is None:
            return longest
        return min(longest, max(0.0, (taken.next - taken.now) / SECOND) + self._late * random.random())
