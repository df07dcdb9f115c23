"""Tasks going in within a transaction of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, ParamSpec, Unpack, overload

from sitq.core import Task
from sitq.keywords import GivenOptions
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.queue.producing import Producing, check_keywords
from sitq.record import Record
from sitq.session import Run, Session

P = ParamSpec("P")


class Within:
    """A queue and a transaction: what is enqueued through it is there when the transaction is committed.

    After a rollback there was never anything. No event tells of the enqueuing, and nobody waits for room in a
    queue that is full.
    """

    def __init__(
        self, queue: Producing, connection: object, options: Options = NO_OPTIONS, run: Run | None = None
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._options = options
        self._run = run

    def options(self, **options: Unpack[GivenOptions]) -> Within:
        """The same with options for what is enqueued through it."""
        return Within(self._queue, self._connection, make_options(self._options, options), self._run)

    @overload
    async def enqueue(
        self, function: Callable[..., Any], /, *args: Any, eta: datetime, **kwargs: Any
    ) -> str: ...

    @overload
    async def enqueue(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str: ...

    async def enqueue(  # type: ignore[misc]  # an `eta` of the function's own is not for it
        self, function: Callable[..., Any], /, *args: Any, eta: datetime | None = None, **kwargs: Any
    ) -> str:
        """Enqueue one call within the transaction, and return its id. See `TaskQueue.enqueue`."""
        check_keywords(function, args, kwargs)
        options = self._options if eta is None else make_options(self._options, {"eta": eta})
        return await self._queue.enqueue_call(function, args, kwargs, options, put=self._put)

    async def enqueue_many(self, tasks: Iterable[Task]) -> list[str]:
        """Enqueue tasks within the transaction, and return their ids in order."""
        return await self._queue.enqueue_many(tasks, put=self._put)

    async def _put(self, session: Session, records: Sequence[Record]) -> list[str]:
        return await session.put_within(self._connection, records, self._run)
