"""What a queue has for each event loop that it is used in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

from sitq.backends.base import Answer, Backend, Refused
from sitq.coalesce import Coalescer
from sitq.codec import Codec
from sitq.core import Result, as_datetime
from sitq.exceptions import (
    DependencyError,
    DuplicateTaskError,
    ResourceExhaustionError,
    SerializationError,
    TaskQueueError,
)
from sitq.record import SECOND, TERMINAL, Record, State
from sitq.results import ResultWaiter

_ENDED: Final = {State.COMPLETED: "success"}
"""What users call the states that they do not call as the store does."""


class Session:
    """Batches what a loop's callers put, and waits for what they wait for."""

    def __init__(self, backend: Backend, codec: Codec) -> None:
        self.codec = codec
        self.waiter = ResultWaiter(backend)
        self._puts: Coalescer[Sequence[Record], list[Answer]] = Coalescer(backend.put, weigh=len)

    async def put(self, group: Sequence[Record]) -> list[str]:
        """Store tasks, all or none; the ids under which they are known."""
        answers = await self._puts.submit(group)
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        if refused:
            # The others are refused only because of the one that has a reason of its own.
            _raise(next((answer for answer in refused if answer.why != "group"), refused[0]))
        return [answer.id for answer in answers]

    async def close(self) -> None:
        """Let what is under way come to its end, and stop waiting."""
        await self._puts.drain()
        await self.waiter.close()

    def result(self, record: Record) -> Result:
        """What users see of a record.

        Raises:
            SignatureError: Its result is not what a worker stored.
        """
        if record.state not in TERMINAL:
            return Result(record.id, "pending", created_at=_moment(record.created))
        value, codec = self.codec.value(record) if record.state is State.COMPLETED else (None, None)
        failure = None if record.state is State.COMPLETED or not record.errors else record.errors[-1]
        message = ": ".join(part for part in (failure.type, failure.message) if part) if failure else None
        return Result(
            task_id=record.id,
            status=_ENDED.get(record.state, record.state.value),
            value=value,
            error=message,
            traceback=(failure.traceback or None) if failure else None,
            created_at=_moment(record.created),
            completed_at=as_datetime(record.finished),
            error_type=(failure.type or None) if failure else None,
            codec=codec,
        )


def _moment(instant: int) -> datetime:
    return datetime.fromtimestamp(instant / SECOND, UTC)


def _raise(answer: Refused) -> NoReturn:
    """The error that a refusal is for the caller."""
    task_id, detail = answer.id, answer.detail
    match answer.why:
        case "unique":
            message = f"task {detail} holds the unique key"
            raise DuplicateTaskError(message, existing_id=detail, task_id=task_id, operation="enqueue")
        case "parent":
            message = f"there is no task {detail} to depend on; enqueue it before, or in the same call"
            raise DependencyError(message, task_id=task_id, operation="enqueue")
        case "cycle":
            message = f"task {detail} would depend on itself; take one of the dependencies out"
            raise DependencyError(message, task_id=task_id, operation="enqueue")
        case "full":
            message = f"queue {detail} is full; try again when its tasks have run"
            raise ResourceExhaustionError(message, task_id=task_id, operation="enqueue")
        case "payload":
            message = (
                f"the store takes no payload of {detail} bytes; store the data elsewhere and pass its path"
            )
            raise SerializationError(message, task_id=task_id, operation="enqueue")
        case "group":
            message = "none of the tasks was stored, as one of them was refused"
            raise TaskQueueError(message, task_id=task_id, operation="enqueue")
