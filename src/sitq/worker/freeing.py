"""Freeing the leases of a worker that is known to be dead."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from sitq.backends.base import Backend, Filter
from sitq.exceptions import BackendError
from sitq.move import Lapse
from sitq.record import State

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_PAGE: Final = 500

logger = logging.getLogger("sitq.worker")


async def free_leases(backend: Backend, worker: str) -> int:
    """End the leases that a dead worker holds, so that others take its tasks now; answers how many it ended.

    A store that is away is asked again until it is back. Several may do it at once, as tokens fence it.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            return await _sweep(backend, worker)
        except BackendError as error:
            logger.warning("the leases of %s could not be freed, trying again: %s", worker, error)
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, _LONGEST_PAUSE)


async def _sweep(backend: Backend, worker: str) -> int:
    where = Filter(states=(State.RUNNING,), owner=worker)
    after: int | None = None
    freed = 0
    while True:
        page = await backend.scan(where, after, _PAGE)
        lapses = [Lapse(id=record.id, token=record.token or "") for record in page.records]
        if lapses:
            freed += sum(await backend.apply(lapses))
        if page.after is None:
            return freed
        after = page.after
