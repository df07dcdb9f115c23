"""Running ended tasks again, as new tasks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Unpack, overload

from sitq.backends.base import Placed
from sitq.exceptions import SitqError, ValidationError
from sitq.handle import unknown
from sitq.parents import Parent, id_of
from sitq.policy.again import again, id_of_retry
from sitq.queue.listing import Listing
from sitq.record import TERMINAL, Record
from sitq.session import Session
from sitq.where import Where, filter_of, limited


class Retrying(Listing):
    """Runs ended tasks again."""

    @overload
    async def retry(self, tasks: str | Parent, /) -> str: ...  # type: ignore[overload-overlap]  # one id is text

    @overload
    async def retry(self, tasks: Iterable[str | Parent], /) -> list[str]: ...

    @overload
    async def retry(self, /, **where: Unpack[Where]) -> list[str]: ...

    async def retry(
        self, tasks: str | Parent | Iterable[str | Parent] | None = None, /, **where: Unpack[Where]
    ) -> str | list[str]:
        """Run tasks that have ended again: each as a new task, whose id is returned and which is due at once.

        The new one has the old one's function, arguments and options, and `retry_of` says whose retry it is.
        Its payload is verified and sealed anew, and never loaded. It depends on the same tasks, and those
        that have ended count as they did. To retry a task twice is to retry it once: while its retry has not
        ended, the answer is that one's id, and when it has ended, too, it is that one that is retried.

        `retry(task_id)` answers with an id, `retry(ids)` with a list of them. `retry(state="failed",
        queue="emails")` retries what has not been retried before, in bounded steps.

        Args:
            tasks: A task's id, its handle or its `Task`, or several of them.
            where: What the tasks have in common instead; see `tasks`. It must name the `state`.

        Raises:
            UnknownTaskError: There is no such task.
            ValidationError: A task has not ended, or no state is given.
            SignatureError: A payload is not to be trusted, or is signed and there is no key here to sign it
                anew. Those by condition that come after it are retried all the same.
        """
        session = await self._session()
        if tasks is None:
            return await self._retry_all(session, where)
        if where:
            raise ValidationError(f"retry takes tasks or conditions such as {min(where)}=…, not both")
        if isinstance(tasks, str | Parent) or not isinstance(tasks, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            return await self._retry_one(session, id_of(tasks))
        return [await self._retry_one(session, id_of(each)) for each in list(tasks)]

    async def _retry_one(self, session: Session, task_id: str) -> str:
        record = await session.waiter.read(task_id)
        if record is None:
            raise unknown(task_id, "retry")
        if record.milestone:
            raise ValidationError(f"{task_id} is a batch and no task; retry its tasks", task_id=task_id)
        while True:
            if record.state not in TERMINAL:
                if record.id != task_id:  # it is being run again already
                    return record.id
                raise ValidationError(
                    f"task {task_id} is {record.state.value}; only what has ended can be run again",
                    task_id=task_id,
                )
            before, record = record, await session.waiter.read(id_of_retry(record.id))
            if record is None:
                new = await _anew(session, before, await self._parents([before]))
                (stored_id,) = await session.put([new])
                return stored_id

    async def _retry_all(self, session: Session, where: Where) -> list[str]:
        wanted = limited(filter_of(where, acts=True), TERMINAL, "retry")
        if "state" not in where:
            raise ValidationError("retry needs the state of what it is to run again: retry(state='failed')")
        stored: list[str] = []
        failed: SitqError | None = None
        async for records in self._scan(wanted):
            parents = await self._parents(records)
            fresh: list[Record] = []
            for record in records:
                if record.milestone:
                    continue
                try:
                    fresh.append(await _anew(session, record, parents))
                except SitqError as error:
                    failed = failed or error
            answers = await session.put_each(fresh)
            stored += [answer.id for answer in answers if isinstance(answer, Placed)]
        if failed is not None:
            raise failed
        return stored

    async def _parents(self, records: Sequence[Record]) -> set[str]:
        """The parents of these tasks that are still there."""
        ids = list({edge.parent for record in records for edge in record.edges})
        found = await self.backend.get(ids) if ids else []
        return {parent.id for parent in found if parent is not None}


async def _anew(session: Session, record: Record, parents: set[str]) -> Record:
    """The record that runs another one again."""
    return again(
        record,
        payload=await session.resealed(record, id_of_retry(record.id)),
        reply=session.waiter.topic,
        known=parents,
        now=time.time_ns() // 1000,
    )
