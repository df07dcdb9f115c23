"""Tasks going in: the enqueuing side of a queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from types import FunctionType
from typing import Any, ParamSpec, overload

from sitq.context import current
from sitq.core import Task
from sitq.decorator import called
from sitq.dependencies import callers_signature
from sitq.exceptions import SitqError, ValidationError, put_in_context
from sitq.ids import new_id
from sitq.middleware import around_group
from sitq.options import NO_OPTIONS, OPTION_NAMES, Options, make_options
from sitq.queue.base import QueueBase
from sitq.record import Record
from sitq.session import Session

P = ParamSpec("P")

Put = Callable[[Session, Sequence[Record]], Awaitable[list[str]]]
"""A way to store a group of tasks."""

_LARGEST_GROUP = 100_000
"""How many tasks `enqueue_many` takes at once: more would keep other writers from the store for too long."""


class Producing(QueueBase):
    """Enqueues tasks."""

    @overload
    async def enqueue(
        self, function: Callable[..., Any], /, *args: Any, eta: datetime, **kwargs: Any
    ) -> str: ...

    @overload
    async def enqueue(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str: ...

    async def enqueue(  # type: ignore[misc]  # an `eta` of the function's own is not for it
        self, function: Callable[..., Any], /, *args: Any, eta: datetime | None = None, **kwargs: Any
    ) -> str:
        """Enqueue one call and return its id once the store has it.

        `eta` is the one keyword that does not go to the function; `options(eta=…)` leaves it to it. A caller
        that is cancelled while waiting does not know whether the task was stored.

        Args:
            function: What to run.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            eta: The aware datetime before which it does not start.

        Raises:
            ValidationError: The function cannot be called, or `eta` has no time zone.
            SerializationError: An argument cannot be serialized (it is named), or all are too large.
            QueueFullError: As many tasks wait in the queue as `max_length` allows.
            ResourceExhaustionError: The store is full.
            BackendError: The store failed.
        """
        check_keywords(function, args, kwargs)
        options = NO_OPTIONS if eta is None else make_options(NO_OPTIONS, {"eta": eta})
        return await self.enqueue_call(function, args, kwargs, options)

    async def enqueue_many(self, tasks: Iterable[Task], *, put: Put | None = None) -> list[str]:
        """Enqueue tasks, all or none of them, and return their ids in order.

        `put` is another way to store them; `within` has one.

        Raises:
            ValidationError: An item is no `Task`, or there are more than 100,000.
            QueueFullError: There is no room for all of them; if they would wait, there never will be.
            SerializationError: An argument of one of them cannot be serialized.
        """
        if not isinstance(tasks, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"enqueue_many takes a list of tasks, not {type(tasks).__name__}; write [task]"
            )
        group = list(islice(tasks, _LARGEST_GROUP + 1))
        if len(group) > _LARGEST_GROUP:
            raise ValidationError(f"enqueue_many takes at most {_LARGEST_GROUP:,} tasks at once; split them")
        if self._around:
            for task in group:
                if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
                    raise ValidationError(_no_task(task))
            return await around_group(self._around, group, partial(self._store, put=put))
        return await self._store(group, put=put)

    async def enqueue_call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Options,
        *,
        put: Put | None = None,
    ) -> str:
        """Enqueue one call that is given as data; `put` is another way to store it. See `enqueue`."""
        if type(function) is not FunctionType:
            function, args, options = called(function, args, options)
        if self._around:
            task = Task(function, tuple(args), kwargs)
            task.options, task.id = options, options.id or task.id
            return (await around_group(self._around, [task], partial(self._store, put=put)))[0]
        session = await self._session()
        task_id = options.id or new_id()
        try:
            record = session.codec.record(
                task_id,
                function,
                args,
                kwargs,
                options,
                queue=self.queue,
                reply=session.waiter.topic,
                exact=not self._middleware,
            )
        except SitqError as error:
            put_in_context(error, task_id, "enqueue")
            raise
        waits = self._waits(record, options)
        if put is not None:
            (stored_id,) = await put(session, [record])
        elif waits:
            (stored_id,) = await session.put_when_room([record])
        else:
            (stored_id,) = await session.put([record])
        return stored_id

    async def _store(self, tasks: Sequence[Task], *, put: Put | None = None) -> list[str]:
        session = await self._session()
        records, waits = self._records(session, tasks)
        if put is not None:
            return await put(session, records) if records else []
        store = session.put_when_room if waits else session.put
        return await store(records) if records else []

    def _records(self, session: Session, tasks: Sequence[Task]) -> tuple[list[Record], bool]:
        """The records of tasks, and whether one of them may wait for room in its queue."""
        make, exact = session.codec.record, not self._middleware
        queue, reply = self.queue, session.waiter.topic
        bound = self._max_length is not None or current.get(None) is not None
        records: list[Record] = []
        waits = False
        for task in tasks:
            if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
                raise ValidationError(_no_task(task))
            function, options = task.function, task.options
            args: Sequence[Any] = task.args
            if type(function) is not FunctionType:
                function, args, options = called(function, args, options)
            try:
                record = make(
                    task.id, function, args, task.kwargs, options, queue=queue, reply=reply, exact=exact
                )
            except SitqError as error:
                put_in_context(error, task.id, "enqueue")
                raise
            if bound or record.room is not None:
                waits |= self._waits(record, options)
            records.append(record)
        return records, waits

    def _waits(self, record: Record, options: Options) -> bool:
        """Give a record what comes from where it is enqueued; whether it may wait for room in its queue."""
        parent = current.get(None)
        if parent is not None and parent.last_start is not None:
            _inherit(record, parent.last_start)
        if self._max_length is not None and record.room is None and record.queue == self.queue:
            record.room = self._max_length  # no option says another bound than that of the own queue
        return record.room is not None and (options.when_full or self._when_full) == "wait"


def _inherit(record: Record, deadline: int) -> None:
    """What a running task enqueues is of no use after that one's deadline."""
    record.deadline = deadline if record.deadline is None else min(record.deadline, deadline)


def _no_task(given: object) -> str:
    return f"enqueue_many takes Task objects, not {type(given).__name__}; write Task(function, args)"


def check_keywords(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse an option among the keywords that the function itself does not take.

    Raises:
        ValidationError: There is one; the message says where options go.
    """
    if OPTION_NAMES.isdisjoint(kwargs):
        return
    try:
        callers_signature(function).bind(*args, **kwargs)
    except TypeError as error:
        options = ", ".join(f"{name}=…" for name in kwargs if name in OPTION_NAMES)
        label = getattr(function, "__qualname__", type(function).__qualname__)
        raise ValidationError(
            f"{label}() cannot be called like that: {error}; "
            f"did you mean queue.options({options}).enqueue({label}, …)?"
        ) from error
    except ValueError:  # a built-in without a signature
        return
