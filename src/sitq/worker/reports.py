"""What a worker reports of its tasks, if anybody listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sitq import facts
from sitq.backends.base import Backend
from sitq.events import Listeners
from sitq.record import Record
from sitq.teller import Teller
from sitq.worker.run import Run
from sitq.worker.settle import Verdict

_PATIENCE: Final = 2.0
"""Seconds that looking up the last tasks may take which the store itself let end."""

logger = logging.getLogger("sitq.events")


class Reports:
    """Puts into words what a worker and its store do; of no cost while nobody listens."""

    def __init__(self, backend: Backend, listeners: Listeners, worker: str, clock: Callable[[], int]) -> None:
        self._backend = backend
        self._listeners = listeners
        self._worker = worker
        self._clock = clock
        self._teller = Teller(listeners, backend)
        self._loop = asyncio.get_running_loop()
        self._looking: set[asyncio.Task[None]] = set()
        self._stop_observing: Callable[[], None] | None = None

    def begin(self) -> None:
        """Report that the worker begins, and from now on what the store does by itself."""
        self._stop_observing = self._backend.observe(self._told)
        if self._listeners.active:
            self._teller.tell([facts.of_worker("worker_started", self._worker, self._clock())])

    async def end(self) -> None:
        """Report that the worker has ended, and let everybody hear it."""
        self.forget()
        if self._looking:
            await asyncio.wait(self._looking, timeout=_PATIENCE)
        if self._listeners.active:
            self._teller.tell([facts.of_worker("worker_stopped", self._worker, self._clock())])
        await self._teller.close()

    def forget(self) -> None:
        """Report nothing more of what the store does by itself. Idempotent."""
        if self._stop_observing is not None:
            self._stop_observing()

    def started(self, records: Iterable[Record]) -> None:
        """Report that attempts begin."""
        self._teller.tell(facts.started(records, self._clock(), self._worker))

    def settled(self, batch: Sequence[tuple[Run, Verdict]], kept: Sequence[bool]) -> None:
        """Report what attempts came to, after the store has answered."""
        now = self._clock()
        self._teller.tell(
            facts.settled(run.record, verdict, getattr(run, "outcome", None), now, self._worker, kept=one)
            for (run, verdict), one in zip(batch, kept, strict=True)
        )
        following = [
            record for (_, verdict), one in zip(batch, kept, strict=True) if one for record in verdict.follow
        ]
        if following:
            self._look([record.id for record in following], self._tell_placed)

    def _told(self, ids: Sequence[str]) -> None:
        if self._listeners.active:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended
                self._loop.call_soon_threadsafe(self._look, ids, self._tell_ended)

    def _tell_ended(self, records: Iterable[Record]) -> None:
        events = [facts.ended(record, self._worker) for record in records]
        self._teller.tell([event for event in events if event is not None])

    def _tell_placed(self, records: Iterable[Record]) -> None:
        self._teller.tell(facts.followed(records, self._worker))

    def _look(self, ids: Sequence[str], tell: Callable[[list[Record]], None]) -> None:
        task = asyncio.create_task(self._read(ids, tell))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _read(self, ids: Sequence[str], tell: Callable[[list[Record]], None]) -> None:
        try:
            found = await self._backend.get(ids)
        except Exception as error:  # noqa: BLE001 - an event is lost, and nothing else
            logger.warning("%d tasks could not be reported: %s", len(ids), error)
            return
        tell([record for record in found if record is not None])
