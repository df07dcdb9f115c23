"""Words of an operator to tasks that are in the store: by id, by ids, or by what they have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Unpack, overload

import msgspec

from sitq import validation
from sitq.backends.base import Filter
from sitq.exceptions import ValidationError
from sitq.facts import cancelled, changed, deleted
from sitq.move import Cancel, Change, Delete, Move
from sitq.parents import Parent, id_of
from sitq.queue.listing import Listing
from sitq.record import TERMINAL, WAITING, State
from sitq.where import OPEN, Ended, Where, filter_of, limited, states_of

STEP = 500
"""How many tasks are changed in one step by a word that is about many."""


class Controlling(Listing):
    """Changes what becomes of tasks."""

    @overload
    async def cancel(self, tasks: str | Parent, /, reason: str = "") -> bool: ...

    @overload
    async def cancel(self, tasks: Iterable[str | Parent], /, reason: str = "") -> int: ...

    @overload
    async def cancel(self, /, *, reason: str = "", **where: Unpack[Where]) -> int: ...

    async def cancel(
        self,
        tasks: str | Parent | Iterable[str | Parent] | None = None,
        /,
        reason: str = "",
        **where: Unpack[Where],
    ) -> int:
        """Cancel waiting tasks, and ask running ones to stop.

        `cancel(task_id)` answers whether there was something to cancel: False if the task has ended or is
        unknown. `cancel(ids)` and `cancel(state="queued", queue="emails")` answer how many there were. Many
        are cancelled in bounded steps, so that others are let in between.

        Args:
            tasks: A task's id, its handle or its `Task`, or several of them.
            reason: Why; the tasks keep it.
            where: What the tasks have in common instead; see `tasks`. Without a `state`, all that have not
                ended.

        Raises:
            ValidationError: Neither tasks nor a condition are given, or `reason` has more than 1,000
                characters.
        """
        why = validation.reason(reason)
        wanted = limited(filter_of(where, acts=True), OPEN, "cancel")
        running = State.RUNNING in (wanted.states or ())
        return await self._say(
            tasks, where, wanted, lambda task_id: Cancel(id=task_id, reason=why, running=running), "cancel"
        )

    @overload
    async def change(
        self,
        tasks: str | Parent,
        /,
        *,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
    ) -> bool: ...

    @overload
    async def change(
        self,
        tasks: Iterable[str | Parent],
        /,
        *,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
    ) -> int: ...

    @overload
    async def change(
        self,
        /,
        *,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        **where: Unpack[Where],
    ) -> int: ...

    async def change(
        self,
        tasks: str | Parent | Iterable[str | Parent] | None = None,
        /,
        *,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        **where: Unpack[Where],
    ) -> int:
        """Change when waiting tasks start, or how soon.

        Answers like `cancel`: whether the task was waiting, or how many were. `delay=0` makes a task due now.
        A ttl counts from the new time, if the task was never started.

        Args:
            tasks: A task's id, its handle or its `Task`, or several of them.
            eta: The aware datetime before which they do not start.
            delay: Seconds from now before which they do not start, by the store's clock.
            priority: From -100 to 100; higher ones run first.
            where: What the tasks have in common instead; see `tasks`.

        Raises:
            ValidationError: There is nothing to change, or to change it in, or a value is not acceptable.
        """
        if eta is None and delay is None and priority is None:
            raise ValidationError("change needs something to change: eta=…, delay=… or priority=…")
        if eta is not None and delay is not None:
            raise ValidationError("eta and delay both say when to start; give one of them")
        due = None if eta is None else validation.instant(eta, "eta")
        later = None if delay is None else validation.duration(delay, "delay")
        rank = None if priority is None else validation.priority(priority)
        wanted = limited(filter_of(where, acts=True), WAITING, "change")
        return await self._say(
            tasks,
            where,
            wanted,
            lambda task_id: Change(id=task_id, due=due, delay=later, priority=rank),
            "change",
        )

    async def purge(
        self, state: str | Iterable[str], *, older_than: float | timedelta = 0, **where: Unpack[Ended]
    ) -> int:
        """Remove the records of tasks that have ended, and answer how many.

        `purge("completed", older_than=3600)` removes those that completed more than an hour ago. A record on
        which a task depends that has not ended stays. Many are removed in bounded steps. Spilled payloads and
        results are removed with them, if the queue has the `spill` of their producers.

        Args:
            state: One state in which tasks have ended, or several.
            older_than: Seconds since they ended.
            where: What they have in common besides: `queue`, `function`, `text`, `batch`.

        Raises:
            ValidationError: A state is none in which tasks have ended, or a value is not acceptable.
        """
        states = states_of(state, TERMINAL)
        length = validation.duration(older_than, "older_than")
        conditions = filter_of(where, acts=True)
        before = max(0, time.time_ns() // 1000 - length) if length else None
        wanted = msgspec.structs.replace(conditions, states=states, finished_before=before)
        contents, removed = (await self._session()).codec.contents, 0
        async for records in self._scan(wanted):
            kept = await self._carry_out([Delete(id=record.id, states=states) for record in records])
            removed += sum(kept)
            if contents.spills:
                await contents.forget([record for record, was in zip(records, kept, strict=True) if was])
        return removed

    # -- one word to many ----------------------------------------------------------------------------------

    async def _say(
        self,
        tasks: str | Parent | Iterable[str | Parent] | None,
        where: Mapping[str, Any],
        wanted: Filter,
        move: Callable[[str], Move],
        method: str,
    ) -> int:
        if tasks is None:
            if not where:
                raise ValidationError(
                    f"say which tasks to {method}: a task id, a list of them, or {method}(state=…)"
                )
            return await self._say_all(wanted, move)
        if where:
            raise ValidationError(f"{method} takes tasks or conditions such as {min(where)}=…, not both")
        if isinstance(tasks, str | Parent) or not isinstance(tasks, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            task_id = id_of(tasks)
            await self._session()
            (kept,) = await self._carry_out([move(task_id)])
            return kept
        ids = [id_of(each) for each in tasks]
        await self._session()
        said = 0
        for start in range(0, len(ids), STEP):
            said += sum(await self._carry_out([move(each) for each in ids[start : start + STEP]]))
        return said

    async def _say_all(self, wanted: Filter, move: Callable[[str], Move]) -> int:
        await self._session()
        said = 0
        async for records in self._scan(wanted):
            said += sum(await self._carry_out([move(record.id) for record in records]))
        return said

    async def _carry_out(self, moves: list[Move]) -> list[bool]:
        kept = await self.backend.apply(moves)
        if self._listeners.active:
            said = [move for move, was in zip(moves, kept, strict=True) if was]
            await self._tell_about([move.id for move in said if isinstance(move, Cancel)], cancelled)
            await self._tell_about([move.id for move in said if isinstance(move, Change)], changed)
            await self._tell(deleted(move.id) for move in said if isinstance(move, Delete))
        return kept
