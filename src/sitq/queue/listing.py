"""A look at what is in the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, Unpack

from sitq import validation
from sitq.backends.base import Filter
from sitq.info import TaskInfo, TaskPage, info_of
from sitq.parents import Parent, id_of
from sitq.queue.base import QueueBase
from sitq.record import Record
from sitq.where import Where, filter_of

_LONGEST_PAGE: Final = 1_000
_MOST_SCANS: Final = 20
"""After how many scans that found too little a page is handed out as it is."""

_STEP: Final = 500
"""How many tasks are read, and changed, in one step by a word that is about many."""


class Listing(QueueBase):
    """Lists and counts tasks."""

    async def tasks(
        self, *, limit: int = 100, after: int | None = None, newest_first: bool = True, **where: Unpack[Where]
    ) -> TaskPage:
        """A page of tasks, each at a glance. Nothing of them is unpickled.

        The next page begins behind `page.after`, whatever has been added or removed meanwhile; it is None
        after the last page. So that a rare condition does not keep the store busy for long, a page can have
        fewer tasks than asked for, or none, and yet not be the last. `iter_tasks` reads page after page.

        Args:
            limit: The most tasks on the page, up to 1,000.
            after: Where the page before it ended.
            newest_first: Begin with the task that was enqueued last, or else with the first.
            where: Conditions that all must hold: `state`, `queue`, `function`, `text`, `batch`, `worker`,
                `older_than` (seconds since it was enqueued), `created_before`, `finished_before`.

        Raises:
            ValidationError: A condition is unknown or not acceptable.
        """
        wanted = filter_of(where, newest_first=newest_first)
        most = validation.positive_int(limit, "limit", _LONGEST_PAGE)
        after = None if after is None else validation.positive_int(after, "after", (1 << 63) - 1)
        await self._session()
        found: list[Record] = []
        for _ in range(_MOST_SCANS):
            page = await self.backend.scan(wanted, after, most - len(found))
            found += page.records
            after = page.after
            if after is None or len(found) >= most:
                break
        return TaskPage(tuple(map(info_of, found)), after)

    async def iter_tasks(
        self, *, newest_first: bool = True, **where: Unpack[Where]
    ) -> AsyncGenerator[TaskInfo]:
        """All tasks that fulfil the conditions, one after another, read in pages. See `tasks`."""
        wanted = filter_of(where, newest_first=newest_first)
        await self._session()
        async for records in self._scan(wanted):
            for record in records:
                yield info_of(record)

    async def task_info(self, task_id: str | Parent) -> TaskInfo | None:
        """A task at a glance, or `None` for an unknown one. Nothing of it is unpickled."""
        session = await self._session()
        record = await session.waiter.read(id_of(task_id))
        return None if record is None else info_of(record)

    async def stats(self) -> dict[str, dict[str, int]]:
        """How many tasks there are per queue and state."""
        await self._session()
        tally = await self.backend.tally()
        return {queue: {str(state): n for state, n in states.items()} for queue, states in tally.items()}

    async def _scan(self, where: Filter) -> AsyncIterator[list[Record]]:
        """What a filter finds, a bounded step at a time."""
        after: int | None = None
        while True:
            page = await self.backend.scan(where, after, _STEP)
            if page.records:
                yield page.records
            after = page.after
            if after is None:
                return
