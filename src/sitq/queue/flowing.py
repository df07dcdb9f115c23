"""Tasks that belong together: batches, and a look at how tasks depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sitq import validation
from sitq.backends.base import Filter
from sitq.batch import BatchInfo, Plan, batch, guards, info_of_batch, milestone, plan_batch
from sitq.core import Task
from sitq.exceptions import DuplicateTaskError, UnknownTaskError, ValidationError
from sitq.graph import Graph, graph_of
from sitq.handle import TaskHandle, unknown
from sitq.middleware import around_group
from sitq.parents import Parent
from sitq.queue.submitting import Submitting
from sitq.record import Record
from sitq.spill import AwayError

_PAGE = 500
_MOST_NODES = 10_000


class Flowing(Submitting):
    """Enqueues batches and draws graphs."""

    async def batch(
        self,
        tasks: Iterable[Task],
        *,
        on_success: Task | Callable[..., Any] | None = None,
        on_failure: Task | Callable[..., Any] | None = None,
        on_finish: Task | Callable[..., Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> BatchHandle:
        """Enqueue tasks that are watched as one, with callbacks for their end: all of it or nothing.

        Callbacks are tasks like others, or functions without arguments. Members and callbacks find the batch
        in `current_task().batch`. A batch without tasks succeeds at once.

        With an `id` it is idempotent while the batch is known: the same one again enqueues nothing.

        Args:
            tasks: The members, at most 50,000.
            on_success: Runs when all of them have completed.
            on_failure: Runs when all of them have ended and one did not complete.
            on_finish: Runs when all of them have ended, in whatever way.
            metadata: What its tasks share; anything that the serializer takes.
            id: The caller's own id of the batch.

        Raises:
            ValidationError: A member is no `Task`, or there are too many.
            SerializationError: An argument or the metadata cannot be serialized.
            DependencyError: A member depends on an unknown task, they depend on each other in a circle, or
                another task holds the unique key of one.
        """
        known = None if id is None else await self.batch_info(id)
        if known is not None:
            return self._batch_handle(known)
        plan = plan_batch(
            tasks, {"success": on_success, "failure": on_failure, "finish": on_finish}, metadata, id
        )
        store = partial(self._store_batch, plan)
        try:
            ids = await (around_group(self._around, plan.tasks, store) if self._around else store(plan.tasks))
        except DuplicateTaskError:
            known = None if id is None else await self.batch_info(id)
            if known is None:  # it was not the batch, but one of its tasks
                raise
            return self._batch_handle(known)
        return BatchHandle(self, plan.id, ids[: len(plan.members)], plan.callbacks)

    async def batch_info(self, batch_id: str) -> BatchInfo | None:
        """What is known of a batch now: its progress, its metadata, its tasks. None for an unknown one.

        It costs one read, however many tasks the batch has. It is kept for a day after its end.

        Raises:
            ValidationError: The id is that of a task, not of a batch.
            SignatureError: What is stored of it is not to be trusted.
        """
        session = await self._session()
        (record,) = await self.backend.get([validation.task_id(batch_id)])
        if record is None:
            return None
        if not record.milestone:
            raise ValidationError(f"{batch_id} is a task and no batch; queue.task_info tells about it")
        try:
            call = session.codec.call(record)
        except AwayError as away:
            call = session.codec.call(record, fetched=await session.codec.contents.fetch(away))
        return info_of_batch(record, call[2])

    async def graph(self, task_id: str | Parent, *, limit: int = 500) -> Graph:
        """The tasks that are connected with one by dependencies, upwards and downwards.

        The nearest ones come first. Each task costs a read, so at most `limit` are looked at.

        Raises:
            UnknownTaskError: There is no such task.
            ValidationError: `limit` is not from 1 to 10,000.
        """
        start = task_id.id if isinstance(task_id, Parent) else validation.task_id(task_id)
        most = validation.positive_int(limit, "limit", _MOST_NODES)
        await self._session()
        (first,) = await self.backend.get([start])
        if first is None:
            raise unknown(start, "graph")
        found, gone = {start: first}, set[str]()
        line = [first]
        while line and len(found) < most:
            near = await self._neighbours(line, found, gone, most - len(found))
            line = near[: most - len(found)]
            found.update((record.id, record) for record in line)
        return graph_of(start, found.values(), complete=len(found) < most)

    async def _neighbours(
        self, records: Sequence[Record], found: Mapping[str, Record], gone: set[str], most: int
    ) -> list[Record]:
        """Those next to the records that are not known yet: parents, then children."""
        near: dict[str, Record] = {}
        parents = dict.fromkeys(edge.parent for record in records for edge in record.edges)
        missing = [one for one in parents if one not in found and one not in gone][:most]
        for start in range(0, len(missing), _PAGE):
            page = missing[start : start + _PAGE]
            for one, record in zip(page, await self.backend.get(page), strict=True):
                if record is None:
                    gone.add(one)
                else:
                    near[one] = record
        for record in records:
            after: int | None = None
            while len(near) < most:
                page_of = await self.backend.scan(Filter(parent=record.id), after, min(_PAGE, most))
                near.update((child.id, child) for child in page_of.records if child.id not in found)
                after = page_of.after
                if after is None:
                    break
        return list(near.values())

    def _batch_handle(self, known: BatchInfo) -> BatchHandle:
        return BatchHandle(self, known.id, known.task_ids, known.callbacks)

    async def _store_batch(self, plan: Plan, tasks: Sequence[Task]) -> list[str]:
        session = await self._session()
        record = session.codec.record(
            plan.id,
            batch,
            (),
            {"metadata": plan.metadata, "callbacks": plan.callbacks},
            queue=self.queue,
            reply=session.waiter.topic,
        )
        if record.edges:
            raise ValidationError("metadata cannot hold tasks or handles; put their ids there")
        records, waits = self._records(session, tasks)
        put = session.put_when_room if waits else session.put
        ids = await put([*records, milestone(record, plan.members), *guards(plan, record)])
        return ids[: len(records)]


class BatchHandle(Parent):
    """A batch that was enqueued. `await handle` is what is known of it when its last member has ended.

    Others can depend on it: it completes with its last member, however that ended. As an argument it stands
    for its `BatchInfo`.

    Attributes:
        id: The batch.
        handles: Its members, in order.
        callbacks: The handles of its callbacks, by `success`, `failure` and `finish`.
    """

    __slots__ = ("_queue", "callbacks", "handles", "id")

    def __init__(
        self, queue: Flowing, batch_id: str, members: Sequence[str], callbacks: Mapping[str, str]
    ) -> None:
        self._queue = queue
        self.id = batch_id
        self.handles: list[TaskHandle[Any]] = [TaskHandle(one, queue) for one in members]
        self.callbacks: dict[str, TaskHandle[Any]] = {
            kind: TaskHandle(one, queue) for kind, one in callbacks.items()
        }

    def __await__(self) -> Generator[Any, Any, BatchInfo]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> BatchInfo:
        """Wait until all members have ended, and return what is known then. Callbacks may still run.

        Raises:
            TimeoutError: They have not ended in time.
            UnknownTaskError: The batch has been purged.
        """
        await self._queue.get_result(self.id, timeout, raise_on_timeout=True)
        return await self.info()

    async def info(self) -> BatchInfo:
        """What is known of the batch now.

        Raises:
            UnknownTaskError: The batch has been purged.
        """
        info = await self._queue.batch_info(self.id)
        if info is None:
            message = f"there is no batch {self.id}; it has been purged"
            raise UnknownTaskError(message, task_id=self.id, operation="batch_info")
        return info

    async def cancel(self, reason: str = "") -> int:
        """Cancel all members that wait, ask those that run to stop, and answer how many there were.

        The batch ends with the last of them, so `on_failure` and `on_finish` are called as ever.
        `queue.cancel(batch=batch.id)` cancels the callbacks, too.
        """
        return await self._queue.cancel(self.handles, reason)

    def __repr__(self) -> str:
        return f"<BatchHandle {self.id} of {len(self.handles)} tasks>"
