"""Tasks going in with a handle coming back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from sitq import validation
from sitq.core import Task
from sitq.handle import TaskHandle
from sitq.keywords import GivenOptions
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.queue.control import Controlling
from sitq.queue.enqueuer import Enqueuer
from sitq.queue.producing import Producing, check_keywords
from sitq.queue.waiting import Waiting
from sitq.queue.within import Within

P = ParamSpec("P")
R = TypeVar("R")


class Submitting(Producing, Waiting, Controlling):
    """Enqueues tasks and hands out handles of them."""

    def options(self, **options: Unpack[GivenOptions]) -> Enqueuer:
        """The queue with options for what is enqueued through it: `queue.options(priority=5).enqueue(f)`.

        Raises:
            ValidationError: An option is unknown (the nearest one is named) or not acceptable.
        """
        return Enqueuer(self, make_options(NO_OPTIONS, options))

    def within(self, connection: object) -> Within:
        """The queue within a transaction of yours: `await queue.within(connection).enqueue(f)`.

        Its commit makes visible what is enqueued, a rollback leaves nothing. The connection or session is one
        to the store's own database, of a library that the store knows: see the store's page.
        """
        return Within(self, connection)

    @overload
    async def submit(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...

    @overload
    async def submit(
        self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...

    async def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Enqueue one call and return a handle of the task once the store has it.

        Every keyword goes to the function; `queue.options(…).submit(…)` says how it is to be run.

        Raises:
            ValidationError: The function cannot be called like that.
            SerializationError: An argument cannot be serialized (it is named), or all are too large.
            ResourceExhaustionError: The store or the queue is full.
            BackendError: The store failed.
        """
        check_keywords(function, args, kwargs)
        return await self.submit_call(function, args, kwargs, NO_OPTIONS)

    async def submit_call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> TaskHandle[Any]:
        """Enqueue one call that is given as data, and return a handle of it. See `submit`."""
        return TaskHandle(await self.enqueue_call(function, args, kwargs, options), self)

    async def submit_many(self, tasks: Iterable[Task]) -> list[TaskHandle[Any]]:
        """Enqueue tasks, all or none of them, and return their handles in order. See `enqueue_many`."""
        return [TaskHandle(task_id, self) for task_id in await self.enqueue_many(tasks)]

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """A handle of a task that is in the store, by its id; nothing is asked of the store.

        Raises:
            ValidationError: The id is none.
        """
        return TaskHandle(validation.task_id(task_id), self)
