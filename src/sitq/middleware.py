"""Code around every enqueue of a queue and every attempt of a worker."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from sitq.core import ReservedTask, Task
from sitq.exceptions import TaskQueueError, ValidationError

__all__ = [
    "AroundAttempt",
    "AroundEnqueue",
    "AttemptNext",
    "EnqueueNext",
    "Middleware",
    "around_attempts",
    "around_enqueues",
    "around_group",
    "both_sides",
    "checked",
]

EnqueueNext = Callable[[Task], Awaitable[str]]
"""Goes on with an enqueue: answers with the task's id once the store has it."""

AttemptNext = Callable[[ReservedTask], Awaitable[Any]]
"""Goes on with an attempt: answers with what the function returned, or raises what it raised."""

AroundEnqueue = Callable[[Task, EnqueueNext], Awaitable[str]]
"""A middleware of a queue, as a function."""

AroundAttempt = Callable[[ReservedTask, AttemptNext], Awaitable[Any]]
"""A middleware of a worker, as a function."""


M = TypeVar("M")


class Middleware:
    """Both sides of a middleware in one object: derive from it and override one method or both.

    Given to a `TaskQueue`, its `enqueue` is called there, and a worker that `sitq worker` makes for the queue
    calls its `attempt`. Given to a `Worker`, its `attempt` is called there.
    """

    async def enqueue(self, task: Task, call_next: EnqueueNext) -> str:
        """Around one enqueue. The task may be changed, or another one given to `call_next`.

        Raising refuses the task: the caller gets the error, and nothing is stored.
        """
        return await call_next(task)

    async def attempt(self, task: ReservedTask, call_next: AttemptNext) -> Any:
        """Around one attempt. What it returns is the result, what it raises ends the attempt like that."""
        return await call_next(task)


def around_enqueues(given: Iterable[AroundEnqueue | Middleware]) -> tuple[AroundEnqueue, ...]:
    """What a queue calls around an enqueue, the outermost first."""
    kept: list[AroundEnqueue] = []
    for each in given:
        if not isinstance(each, Middleware):
            kept.append(each)
        elif type(each).enqueue is not Middleware.enqueue:
            kept.append(each.enqueue)
    return tuple(kept)


def around_attempts(given: Iterable[AroundAttempt | Middleware]) -> tuple[AroundAttempt, ...]:
    """What a worker calls around an attempt, the outermost first."""
    kept: list[AroundAttempt] = []
    for each in given:
        if not isinstance(each, Middleware):
            kept.append(each)
        elif type(each).attempt is not Middleware.attempt:
            kept.append(each.attempt)
    return tuple(kept)


def both_sides(given: Iterable[AroundEnqueue | Middleware]) -> list[Middleware]:
    """What a worker takes over from the middleware of its queue: objects, since a function has one side."""
    return [each for each in given if isinstance(each, Middleware)]


async def around_group(
    middleware: Sequence[AroundEnqueue],
    tasks: Sequence[Task],
    store: Callable[[Sequence[Task]], Awaitable[list[str]]],
) -> list[str]:
    """Enqueue tasks, all or none, each with the middleware around it; their ids in order.

    Raises:
        TaskQueueError: A middleware did not answer with an id.
    """
    if len(tasks) == 1:

        async def alone(task: Task) -> str:
            (stored,) = await store([task])
            return stored

        return [_id(await _chain(middleware, alone)(tasks[0]))]
    return await _Group(middleware, tasks, store).enqueue()


class _Group:
    """Tasks that are stored together, when the middleware of each has gone on with it."""

    def __init__(
        self,
        middleware: Sequence[AroundEnqueue],
        tasks: Sequence[Task],
        store: Callable[[Sequence[Task]], Awaitable[list[str]]],
    ) -> None:
        self._middleware = middleware
        self._tasks = tasks
        self._store = store
        self._awaited = len(tasks)
        self._all_are_in = asyncio.Event()
        self._arrived: dict[int, tuple[Task, asyncio.Future[str]]] = {}
        self._error: BaseException | None = None

    async def enqueue(self) -> list[str]:
        ways = [asyncio.create_task(self._way(place, task)) for place, task in enumerate(self._tasks)]
        try:
            if ways:
                await self._all_are_in.wait()
            await self._put()
            ids = await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for way in ways:
                way.cancel()
        error = self._error or next((each for each in ids if isinstance(each, BaseException)), None)
        if error is not None:
            raise error
        return [_id(each) for each in ids]

    async def _way(self, place: int, task: Task) -> str:
        async def innermost(given: Task) -> str:
            if place in self._arrived:
                raise TaskQueueError("a middleware called call_next twice for a task of enqueue_many")
            arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._arrived[place] = given, arrived
            self._one_less()
            return await arrived

        try:
            return await _chain(self._middleware, innermost)(task)
        except BaseException as error:
            if place not in self._arrived:
                self._error = self._error or error
            raise
        finally:
            if place not in self._arrived:
                self._one_less()

    def _one_less(self) -> None:
        self._awaited -= 1
        if not self._awaited:
            self._all_are_in.set()

    async def _put(self) -> None:
        places = sorted(self._arrived)
        waiting = [self._arrived[place][1] for place in places]
        if self._error is None:
            try:
                ids = await self._store([self._arrived[place][0] for place in places])
            except Exception as error:  # noqa: BLE001 - each middleware sees it, then the caller
                self._error = error
            else:
                for arrived, stored in zip(waiting, ids, strict=True):
                    arrived.set_result(stored)
        for arrived in waiting:
            if self._error is not None and not arrived.done():
                arrived.set_exception(self._error)


def _chain(middleware: Sequence[AroundEnqueue], innermost: EnqueueNext) -> EnqueueNext:
    call_next = innermost
    for each in reversed(middleware):
        call_next = functools.partial(_step, each, call_next)
    return call_next


async def _step(middleware: AroundEnqueue, call_next: EnqueueNext, task: Task) -> str:
    return await middleware(task, call_next)


def _id(answer: object) -> str:
    if isinstance(answer, str):
        return answer
    raise TaskQueueError(
        f"a middleware answered an enqueue with {answer!r}; write `return await call_next(task)`",
        operation="enqueue",
    )


def checked(given: Iterable[M]) -> tuple[M, ...]:
    """The middleware of a queue or worker, each of them usable.

    Raises:
        ValidationError: One is neither a `Middleware` nor an async function of two arguments.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"middleware must be a list of async functions, not {given!r}")
    return tuple([_usable(each) for each in given])


def _usable(each: Any) -> Any:
    if isinstance(each, Middleware):
        return each
    label: str = getattr(each, "__qualname__", None) or repr(each)
    if inspect.isclass(each):
        raise ValidationError(f"the middleware {label} is a class; give an object of it: {label}()")
    if not _is_async(each):
        name: str = getattr(each, "__name__", "around")
        raise ValidationError(
            f"the middleware {label} is no async function; write "
            f"`async def {name if name.isidentifier() else 'around'}(task, call_next)`"
        )
    try:
        inspect.signature(each).bind(None, None)
    except TypeError as error:
        raise ValidationError(f"the middleware {label} does not take (task, call_next): {error}") from error
    return each


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
