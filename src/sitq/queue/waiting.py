"""Results coming out: the waiting side of a queue."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Literal, TypeVar, overload

from sitq import validation
from sitq.core import Result
from sitq.exceptions import SitqError, TimeoutError, ValidationError, put_in_context
from sitq.follow import follow
from sitq.handle import TaskHandle, handles_of, unknown
from sitq.info import TaskUpdate
from sitq.parents import Parent, id_of
from sitq.queue.base import QueueBase

R = TypeVar("R")

_LAST = datetime.max.replace(tzinfo=UTC)


class Waiting(QueueBase):
    """Tells what became of tasks."""

    async def get_result(
        self,
        task_id: str | Parent,
        timeout: float | None = None,
        *,
        raise_on_timeout: bool = False,
    ) -> Result | None:
        """Wait until a task has ended and return what became of it.

        `None` at once for an unknown task (or one whose record has been purged), and `None` when `timeout`
        seconds have passed.

        Raises:
            TimeoutError: The time has passed and `raise_on_timeout` is set.
            SignatureError: The stored result is not what a worker stored.
        """
        session = await self._session()
        seconds = validation.timeout(timeout)
        task_id = id_of(task_id)
        try:
            record = await session.waiter.wait(task_id, seconds)
        except builtins.TimeoutError as error:
            if not raise_on_timeout:
                return None
            message = f"task {task_id} has not ended within {seconds:g} s; it may still do so"
            raise TimeoutError(message, task_id=task_id, operation="get_result") from error
        return None if record is None else await session.outcome(record)

    async def get_results(self, task_ids: Iterable[str | Parent]) -> list[Result | None]:
        """What is known of tasks now: `None` of an unknown one, `pending` for one that has not ended.

        Raises:
            ValidationError: It is no list of ids, or one of them is none.
        """
        if isinstance(task_ids, str | Parent) or not isinstance(task_ids, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(f"get_results takes a list of task ids, not {task_ids!r}; put it into [ ]")
        session = await self._session()
        records = await self.backend.get([id_of(each) for each in task_ids])
        return [None if record is None else await session.outcome(record) for record in records]

    def deserialize_result(self, result: Result) -> Any:
        """The value that the task returned, as its function says that it is.

        A serializer of plain data gives back plain data where the function is not known in this process, by
        being registered or imported, or says nothing of what it returns.

        Raises:
            ValidationError: The task did not succeed, so there is no value; the message says why.
            SerializationError: The bytes cannot be read here.
        """
        if not isinstance(result, Result):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"deserialize_result takes the Result of a task, not {type(result).__name__}; "
                f"get_result answers None for an unknown task and when its time is over"
            )
        if result.status != "success" or result.value is None:
            why = f": {result.error}" if result.error else ""
            raise ValidationError(
                f"task {result.task_id} has no value, its status is {result.status}{why}",
                task_id=result.task_id,
            )
        try:
            return self._codec().loads_result(result.value, result.codec, result.name)
        except SitqError as error:
            put_in_context(error, result.task_id, "result")
            raise

    async def updates(self, task_id: str | Parent) -> AsyncGenerator[TaskUpdate]:
        """How a task is now, then each change of its status and progress, up to its end.

        Hints only save waiting: a change that nobody hinted at is seen within a quarter of a second. Of
        states that follow each other faster, the last one is told; of notes on progress, every one that the
        record still keeps, which are its newest 20. It stops without an end if the record is purged.

        Raises:
            UnknownTaskError: There is no such task.
        """
        session = await self._session()
        task_id = id_of(task_id)
        known = False
        async for update in follow(self.backend, session.waiter.read, session.waiter.topic, task_id):
            known = True
            yield update
        if not known:
            raise unknown(task_id, "updates")

    # -- several handles -----------------------------------------------------------------------------------

    @overload
    async def gather(
        self,
        *handles: TaskHandle[R],
        return_exceptions: Literal[False] = False,
        timeout: float | None = None,
    ) -> list[R]: ...

    @overload
    async def gather(
        self, *handles: TaskHandle[R], return_exceptions: bool, timeout: float | None = None
    ) -> list[R | BaseException]: ...

    async def gather(
        self, *handles: TaskHandle[Any], return_exceptions: bool = False, timeout: float | None = None
    ) -> list[Any]:
        """Wait until all tasks have ended, and return their values in the order of the handles.

        The first one that ends without success raises its error at once, and nobody waits for the others,
        which go on. However many they are, one subscription waits for all.

        Args:
            handles: The tasks.
            return_exceptions: Put errors in the places of values instead of raising the first.
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: One of them has not ended in time.
            TaskExecutionError: One of them did not succeed. See `TaskHandle.result`.
        """
        waits = [
            asyncio.ensure_future(each.result(timeout)) for each in handles_of(TaskHandle, handles, "gather")
        ]
        try:
            return await asyncio.gather(*waits, return_exceptions=return_exceptions)
        finally:
            for wait in waits:
                wait.cancel()

    async def as_completed(
        self, handles: Iterable[TaskHandle[R]], timeout: float | None = None
    ) -> AsyncGenerator[TaskHandle[R]]:
        """The handles in the order in which their tasks end; to await one that came out takes no time.

        Args:
            handles: The tasks; one that is named twice comes out once.
            timeout: Seconds for all of them.

        Raises:
            TimeoutError: Some have not ended in time.
        """
        seconds = validation.timeout(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        ended: deque[tuple[datetime, TaskHandle[R]]] = deque()
        news = asyncio.Event()
        waits: set[asyncio.Task[Result]] = set()
        for handle in dict.fromkeys(handles_of(TaskHandle, handles, "as_completed")):
            wait = asyncio.create_task(handle.outcome())

            def came(wait: asyncio.Task[Result], handle: TaskHandle[R] = handle) -> None:
                waits.discard(wait)
                if not wait.cancelled():
                    failed = wait.exception()  # who awaits the handle gets it
                    at = None if failed else wait.result().completed_at
                    ended.append((at or _LAST, handle))
                    news.set()

            wait.add_done_callback(came)
            waits.add(wait)
        try:
            while waits or ended:
                if not ended:
                    await _until(news, deadline, seconds, len(waits))
                    news.clear()
                batch = sorted(ended, key=itemgetter(0))
                ended.clear()
                for _, handle in batch:
                    yield handle
        finally:
            for wait in waits:
                wait.cancel()


async def _until(news: asyncio.Event, deadline: float | None, seconds: float | None, open_: int) -> None:
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
            await news.wait()
    except builtins.TimeoutError as error:
        message = f"{open_} of the tasks have not ended within {seconds:g} s; they may still do so"
        raise TimeoutError(message, operation="as_completed") from error
