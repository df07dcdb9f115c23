"""Words of an operator and listings, for code without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar, Unpack, cast, overload

from sitq.events import EventKind, EventListener, TaskEvent
from sitq.info import Pause, TaskInfo, TaskPage
from sitq.limits import AnyLimit
from sitq.parents import Parent
from sitq.queue import TaskQueue
from sitq.sync.bridge import Bridge
from sitq.where import Ended, Where

Call = Callable[..., Coroutine[Any, Any, Any]]
"""A method whose overloads are told here once more."""


L = TypeVar("L", bound=EventListener)


class SyncControl:
    """The faces of a `TaskQueue` that change and list what is in the store."""

    _queue: TaskQueue
    _bridge: Bridge

    @overload
    def cancel(self, tasks: str | Parent, /, reason: str = "") -> bool: ...

    @overload
    def cancel(self, tasks: Iterable[str | Parent], /, reason: str = "") -> int: ...

    @overload
    def cancel(self, /, *, reason: str = "", **where: Unpack[Where]) -> int: ...

    def cancel(self, *tasks: Any, **more: Any) -> Any:
        """Cancel waiting tasks, and ask running ones to stop. See `TaskQueue.cancel`."""
        return self._bridge.call(cast("Call", self._queue.cancel)(*tasks, **more))

    @overload
    def change(
        self,
        tasks: str | Parent,
        /,
        *,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
    ) -> bool: ...

    @overload
    def change(
        self,
        tasks: Iterable[str | Parent],
        /,
        *,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
    ) -> int: ...

    @overload
    def change(
        self,
        /,
        *,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        **where: Unpack[Where],
    ) -> int: ...

    def change(self, *tasks: Any, **more: Any) -> Any:
        """Change when waiting tasks start, or how soon. See `TaskQueue.change`."""
        return self._bridge.call(cast("Call", self._queue.change)(*tasks, **more))

    @overload
    def retry(self, tasks: str | Parent, /) -> str: ...  # type: ignore[overload-overlap]  # one id is text

    @overload
    def retry(self, tasks: Iterable[str | Parent], /) -> list[str]: ...

    @overload
    def retry(self, /, **where: Unpack[Where]) -> list[str]: ...

    def retry(self, *tasks: Any, **where: Any) -> Any:
        """Run tasks that have ended again, as new tasks. See `TaskQueue.retry`."""
        return self._bridge.call(cast("Call", self._queue.retry)(*tasks, **where))

    def purge(
        self, state: str | Iterable[str], *, older_than: float | timedelta = 0, **where: Unpack[Ended]
    ) -> int:
        """Remove the records of tasks that have ended. See `TaskQueue.purge`."""
        return self._bridge.call(self._queue.purge(state, older_than=older_than, **where))

    def pause(
        self,
        queue: str | None = None,
        *,
        function: str | Callable[..., Any] | None = None,
        key: str | None = None,
        until: datetime | float | timedelta | None = None,
        reason: str = "",
    ) -> None:
        """Let no more tasks of a queue, a function or a key start. See `TaskQueue.pause`."""
        self._bridge.call(self._queue.pause(queue, function=function, key=key, until=until, reason=reason))

    def resume(
        self,
        queue: str | None = None,
        *,
        function: str | Callable[..., Any] | None = None,
        key: str | None = None,
    ) -> bool:
        """Let tasks start again; False if it was not paused. See `TaskQueue.resume`."""
        return self._bridge.call(self._queue.resume(queue, function=function, key=key))

    def limit(self, *limits: AnyLimit, queue: str | None = None) -> None:
        """Limit all tasks of a queue. See `TaskQueue.limit`."""
        self._bridge.call(self._queue.limit(*limits, queue=queue))

    def limits(self, queue: str | None = None) -> list[AnyLimit]:
        """The limits that a queue has of its own. See `TaskQueue.limits`."""
        return self._bridge.call(self._queue.limits(queue))

    def pauses(self) -> list[Pause]:
        """What is paused now."""
        return self._bridge.call(self._queue.pauses())

    def tasks(
        self, *, limit: int = 100, after: int | None = None, newest_first: bool = True, **where: Unpack[Where]
    ) -> TaskPage:
        """A page of tasks, each at a glance. See `TaskQueue.tasks`."""
        page = self._queue.tasks(limit=limit, after=after, newest_first=newest_first, **where)
        return self._bridge.call(page)

    def iter_tasks(self, *, newest_first: bool = True, **where: Unpack[Where]) -> Generator[TaskInfo]:
        """All tasks that fulfil the conditions, read in pages. See `TaskQueue.tasks`."""
        return self._bridge.each(lambda: self._queue.iter_tasks(newest_first=newest_first, **where))

    def task_info(self, task_id: str | Parent) -> TaskInfo | None:
        """A task at a glance, or None for an unknown one."""
        return self._bridge.call(self._queue.task_info(task_id))

    def stats(self) -> dict[str, dict[str, int]]:
        """How many tasks there are per queue and state."""
        return self._bridge.call(self._queue.stats())

    @overload
    def on(self, listener: L, /) -> L: ...
    @overload
    def on(self, *kinds: EventKind) -> Callable[[L], L]: ...
    def on(self, *given: Any) -> Any:
        """Tell a listener what this queue does. See `TaskQueue.on`."""
        return self._queue.on(*given)

    def off(self, listener: EventListener) -> None:
        """Tell a listener no more. See `TaskQueue.off`."""
        self._queue.off(listener)

    def events(
        self, after: int | None = 0, *, kinds: Iterable[EventKind] = (), follow: bool = True
    ) -> Generator[TaskEvent]:
        """The durable stream, one event after another. See `TaskQueue.events`."""
        return self._bridge.each(lambda: self._queue.events(after, kinds=kinds, follow=follow))
