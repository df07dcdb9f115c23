"""A queue with options laid over what goes in through it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from sitq.handle import TaskHandle
from sitq.keywords import GivenOptions
from sitq.options import Options, make_options

if TYPE_CHECKING:
    from sitq.queue.submitting import Submitting

P = ParamSpec("P")
R = TypeVar("R")


class Enqueuer:
    """A queue with options for the tasks that are enqueued through it."""

    def __init__(self, queue: Submitting, options: Options) -> None:
        self._queue = queue
        self._options = options

    def options(self, **options: Unpack[GivenOptions]) -> Enqueuer:
        """The same with more options."""
        return Enqueuer(self._queue, make_options(self._options, options))

    async def enqueue(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Enqueue one call with these options.

        Every keyword goes to the function. See `TaskQueue.enqueue`.
        """
        return await self._queue.enqueue_call(function, args, kwargs, self._options)

    @overload
    async def submit(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...

    @overload
    async def submit(
        self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...

    async def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Enqueue one call with these options, and return a handle of it. See `TaskQueue.submit`."""
        return await self._queue.submit_call(function, args, kwargs, self._options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._queue!r} with {', '.join(sorted(self._options.given))}>"
