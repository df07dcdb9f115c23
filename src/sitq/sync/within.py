"""Enqueuing within a transaction, for code without an event loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ParamSpec, Unpack, overload

from sitq.core import Task
from sitq.exceptions import ValidationError
from sitq.keywords import GivenOptions
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.queue import TaskQueue
from sitq.queue.within import Within
from sitq.sync.bridge import Bridge

P = ParamSpec("P")


class SyncWithin:
    """A queue and a transaction, as `Within`. The connection is used in the thread that calls."""

    def __init__(
        self, queue: TaskQueue, connection: object, bridge: Bridge, options: Options = NO_OPTIONS
    ) -> None:
        if any(
            inspect.iscoroutinefunction(getattr(connection, name, None)) for name in ("commit", "execute")
        ):
            raise ValidationError(
                f"{type(connection).__module__}.{type(connection).__qualname__} is for event loops: use a "
                "TaskQueue there, or a connection that is used without await"
            )
        self._queue = queue
        self._connection = connection
        self._bridge = bridge
        self._options = options

    def options(self, **options: Unpack[GivenOptions]) -> SyncWithin:
        """The same with options for what is enqueued through it."""
        return SyncWithin(self._queue, self._connection, self._bridge, make_options(self._options, options))

    @overload
    def enqueue(self, function: Callable[..., Any], /, *args: Any, eta: datetime, **kwargs: Any) -> str: ...

    @overload
    def enqueue(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str: ...

    def enqueue(  # type: ignore[misc]  # an `eta` of the function's own is not for it
        self, function: Callable[..., Any], /, *args: Any, eta: datetime | None = None, **kwargs: Any
    ) -> str:
        """Enqueue one call within the transaction, and return its id. See `TaskQueue.enqueue`."""
        return self._bridge.call_with(
            lambda errands: Within(self._queue, self._connection, self._options, errands.do).enqueue(
                function, *args, eta=eta, **kwargs
            )
        )

    def enqueue_many(self, tasks: Iterable[Task]) -> list[str]:
        """Enqueue tasks within the transaction, and return their ids in order."""
        return self._bridge.call_with(
            lambda errands: Within(self._queue, self._connection, self._options, errands.do).enqueue_many(
                tasks
            )
        )
