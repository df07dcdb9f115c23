"""What a queue has for each event loop that it is used in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from sitq.backends.base import Answer, Backend, Refused
from sitq.clock import as_datetime, moment
from sitq.coalesce import Coalescer
from sitq.codec import Codec
from sitq.core import Result
from sitq.events import Listeners
from sitq.exceptions import (
    DependencyError,
    DuplicateTaskError,
    QueueFullError,
    SerializationError,
    TaskQueueError,
)
from sitq.facts import placed
from sitq.info import status_of
from sitq.policy.cycle import cycle_through
from sitq.record import TERMINAL, Record, State
from sitq.results import ResultWaiter
from sitq.room import Room
from sitq.spill import AwayError
from sitq.teller import Teller

Answers = list[list[Answer]]
Run = Callable[[Coroutine[Any, Any, Answers]], Awaitable[Answers]]
"""A way to have a call of the store done."""


class Session:
    """Batches what a loop's callers put, and waits for what they wait for."""

    def __init__(self, backend: Backend, codec: Codec, listeners: Listeners) -> None:
        self._backend = backend
        self.codec = codec
        self.listeners = listeners
        self.teller = Teller(listeners, backend)
        self.waiter = ResultWaiter(backend)
        self._room = Room(backend, self.put)
        self._puts: Coalescer[Sequence[Record], list[Answer]] = Coalescer(backend.put, weigh=len)

    async def put(self, group: Sequence[Record]) -> list[str]:
        """Store tasks, all or none; the ids under which they are known."""
        if self.codec.contents.pending:
            await self.codec.contents.flush([record.id for record in group])
        answers = await self._puts.submit(group)
        ids = _ids(answers, group)
        if self.listeners.active:
            self.teller.tell(placed(group, answers, datetime.now(UTC)))
        return ids

    async def put_within(
        self, connection: object, group: Sequence[Record], run: Run | None = None
    ) -> list[str]:
        """Store tasks, all or none, within the user's own transaction; the ids under which they are known.

        No event tells of it, as nobody knows yet whether the transaction is committed. `run` lets what uses
        the connection be done elsewhere than in this event loop.
        """
        if self.codec.contents.pending:
            await self.codec.contents.flush([record.id for record in group])
        putting = self._backend.put_within(connection, [group])
        ((*answers,),) = await (putting if run is None else run(putting))
        return _ids(answers, group)

    async def put_when_room(self, group: Sequence[Record]) -> list[str]:
        """The same as soon as there is room in the queue, however long that takes."""
        return await self._room.put(group)

    async def put_each(self, records: Sequence[Record]) -> list[Answer]:
        """Store tasks, each by itself, and answer what became of each."""
        if self.codec.contents.pending:
            await self.codec.contents.flush([record.id for record in records])
        answers = [answer for (answer,) in await self._backend.put([[record] for record in records])]
        if self.listeners.active:
            stored = [
                (record, answer)
                for record, answer in zip(records, answers, strict=True)
                if not isinstance(answer, Refused)
            ]
            self.teller.tell(
                placed([one for one, _ in stored], [answer for _, answer in stored], datetime.now(UTC))
            )
        return answers

    async def close(self) -> None:
        """Let what is under way come to its end, and stop waiting."""
        self._room.close()
        await self._puts.drain()
        await self.waiter.close()
        await self.teller.close()

    async def outcome(self, record: Record) -> Result:
        """What users see of a record, its value fetched if it lies in a file.

        Raises:
            SignatureError: Its result is not what a worker stored.
            SerializationError: The file is not there, or not what a worker stored.
        """
        try:
            return self._result(record)
        except AwayError as away:
            return self._result(record, await self.codec.contents.fetch(away))

    async def resealed(self, record: Record, task_id: str) -> bytes:
        """The payload of a task for another one that does the same, which is to be `put` by this session.

        Raises:
            SignatureError: It is not to be trusted, or is signed and there is no key here.
            SerializationError: It lies in a file that is not there.
        """
        try:
            return self.codec.resealed(record, task_id)
        except AwayError as away:
            return self.codec.resealed(record, task_id, await self.codec.contents.fetch(away))

    def _result(self, record: Record, fetched: bytes | None = None) -> Result:
        if record.state not in TERMINAL:
            return Result(record.id, "pending", created_at=moment(record.created))
        has_value = record.state is State.COMPLETED and not record.milestone
        value, codec = self.codec.value(record, fetched) if has_value else (None, None)
        failure = None if record.state is State.COMPLETED or not record.errors else record.errors[-1]
        message = ": ".join(part for part in (failure.type, failure.message) if part) if failure else None
        return Result(
            task_id=record.id,
            status=status_of(record.state),
            value=value,
            error=message,
            traceback=(failure.traceback or None) if failure else None,
            created_at=moment(record.created),
            completed_at=as_datetime(record.finished),
            error_type=(failure.type or None) if failure else None,
            codec=codec,
            name=record.name or None,
        )


def _ids(answers: Sequence[Answer], group: Sequence[Record]) -> list[str]:
    """The ids under which tasks are known, or the error that the refusal of one is."""
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    if refused:
        # The others are refused only because of the one that has a reason of its own.
        _raise(next((answer for answer in refused if answer.why != "group"), refused[0]), group)
    return [answer.id for answer in answers]


def _bound(task_id: str, group: Sequence[Record]) -> str:
    return next((f"={record.room:,}" for record in group if record.id == task_id and record.room), "")


def _holds(task_id: str, holder: str, group: Sequence[Record]) -> str:
    unique = next((record.unique for record in group if record.id == task_id), None)
    if unique is None:
        return f"task {holder} holds the unique key"
    message = f"task {holder} holds the unique key {unique.key!r}"
    if unique.clash == "replace":
        message += (
            ", and cannot be replaced: only a task of the same function in the same queue can, and only one "
            "that waits for no other task; give the two different keys"
        )
    return message


def _missing(parent: str, task_id: str, group: Sequence[Record]) -> str:
    unique = next((record.unique for record in group if record.id == parent), None)
    if unique is None:
        return (
            f"there is no task {parent}, which task {task_id} is to depend on; "
            f"enqueue it before, or in the same call"
        )
    return (
        f"another task holds the unique key {unique.key!r}, so task {parent} would not be stored, and task "
        f"{task_id} of the same call is to depend on it; nothing was stored. Enqueue the one with the key by "
        f"itself, and let the others depend on the id that this returns"
    )


def _raise(answer: Refused, group: Sequence[Record]) -> NoReturn:
    """The error that a refusal of one of a group is for the caller."""
    task_id, detail = answer.id, answer.detail
    match answer.why:
        case "unique":
            message = _holds(task_id, detail, group)
            raise DuplicateTaskError(message, existing_id=detail, task_id=task_id, operation="enqueue")
        case "parent":
            raise DependencyError(_missing(detail, task_id, group), task_id=task_id, operation="enqueue")
        case "cycle":
            way = " -> ".join(cycle_through(detail, group))
            message = f"task {detail} would depend on itself: {way}; take one of these dependencies out"
            raise DependencyError(message, task_id=task_id, operation="enqueue")
        case "full":
            message = (
                f"queue {detail} has as many waiting tasks as max_length{_bound(task_id, group)} allows; try "
                f"again when some have run, or let the call wait with when_full='wait'"
            )
            raise QueueFullError(message, task_id=task_id, operation="enqueue")
        case "payload":
            message = (
                f"the store takes no payload of {detail} bytes; give the queue and its workers "
                f"spill=Spill(folder), or store the data elsewhere and pass its path"
            )
            raise SerializationError(message, task_id=task_id, operation="enqueue")
        case "group":
            message = "none of the tasks was stored, as one of them was refused"
            raise TaskQueueError(message, task_id=task_id, operation="enqueue")
