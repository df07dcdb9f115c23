"""Pauses: what is not to start for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from sitq import validation
from sitq.backends.base import PAUSE_KEY, PAUSE_NAME, PAUSE_QUEUE, Cell
from sitq.clock import as_datetime, moment
from sitq.exceptions import BackendError, ValidationError
from sitq.facts import paused
from sitq.info import Pause
from sitq.queue.base import QueueBase
from sitq.where import name_of

_PREFIXES: Final[dict[str, Literal["queue", "function", "key"]]] = {
    PAUSE_QUEUE: "queue",
    PAUSE_NAME: "function",
    PAUSE_KEY: "key",
}
_TRIES: Final = 100


class _Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a pause."""

    since: int = 0
    reason: str = ""


_note = msgspec.json.Decoder(_Note).decode


class Pausing(QueueBase):
    """Holds back queues, functions and keys, for all workers."""

    async def pause(
        self,
        queue: str | None = None,
        *,
        function: str | Callable[..., Any] | None = None,
        key: str | None = None,
        until: datetime | float | timedelta | None = None,
        reason: str = "",
    ) -> None:
        """Let no more tasks of a queue, a function, or a limit's or tenant's key start, in any worker.

        Tasks that run go on, and tasks can be enqueued. Without an argument it is this object's queue. What
        is paused already has the new end and reason from now on.

        Args:
            queue: The name of a queue.
            function: A function, or the name that tasks have for it.
            key: The key of a limit, or of a tenant (`fair`).
            until: An aware datetime, or seconds from now, when it goes on by itself.
            reason: Why, for those who wonder.

        Raises:
            ValidationError: Several things are named, or `until` is not acceptable.
        """
        cell = self._cell(queue, function, key)
        now = time.time_ns() // 1000
        length = _length(until, now)
        value = msgspec.json.encode(_Note(now, validation.reason(reason)))
        await self._session()
        await self._write(cell, value, length)
        await self._tell([paused("paused", cell, reason)])

    async def resume(
        self,
        queue: str | None = None,
        *,
        function: str | Callable[..., Any] | None = None,
        key: str | None = None,
    ) -> bool:
        """Let tasks start again; False if it was not paused. Without an argument it is this object's queue.

        Raises:
            ValidationError: Several things are named.
        """
        cell = self._cell(queue, function, key)
        await self._session()
        was_paused = await self._write(cell, None, None)
        if was_paused:
            await self._tell([paused("resumed", cell)])
        return was_paused

    async def pauses(self) -> list[Pause]:
        """What is paused now: queues, functions and keys."""
        await self._session()
        found: list[Pause] = []
        for prefix, kind in _PREFIXES.items():
            for cell in await self.backend.cells(prefix):
                note = _read(cell)
                found.append(
                    Pause(
                        kind=kind,
                        name=cell.key.removeprefix(prefix),
                        since=moment(note.since),
                        until=as_datetime(cell.until),
                        reason=note.reason,
                    )
                )
        return found

    def _cell(self, queue: str | None, function: str | Callable[..., Any] | None, key: str | None) -> str:
        if sum(each is not None for each in (queue, function, key)) > 1:
            raise ValidationError(
                "name one of queue, function and key; pause each of them by a call of its own"
            )
        if function is not None:
            return PAUSE_NAME + name_of(function)
        if key is not None:
            return PAUSE_KEY + validation.name(key, "key")
        return PAUSE_QUEUE + (self.queue if queue is None else validation.name(queue))

    async def _write(self, key: str, value: bytes | None, length: int | None) -> bool:
        """Set or remove a cell, whatever others write meanwhile; whether there was one."""
        for _ in range(_TRIES):
            cells = await self.backend.cells(key)
            seen = next((cell.value for cell in cells if cell.key == key), None)
            if seen is None and value is None:
                return False
            if await self.backend.swap(key, seen, value, length):
                return seen is not None
        raise BackendError(f"{key} is written by others all the time; try again", operation="pause")


def _length(until: object, now: int) -> int | None:
    if until is None:
        return None
    if isinstance(until, datetime):
        length = validation.instant(until, "until") - now
        if length <= 0:
            raise ValidationError(f"until {until.isoformat()} is over; leave it out, or name a time to come")
        return length
    length = validation.duration(until, "until")
    if not length:
        raise ValidationError("until must be longer than 0 s; leave it out for a pause without an end")
    return length


def _read(cell: Cell) -> _Note:
    try:
        return _note(cell.value)
    except msgspec.DecodeError:  # by hand, or by a tool
        return _Note()
