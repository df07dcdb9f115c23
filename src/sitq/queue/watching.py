"""What happens, as it happens: listeners in this process, and the durable stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, overload

from sitq.backends.base import log_topic
from sitq.clock import moment
from sitq.events import STREAM, EventKind, EventListener, TaskEvent, checked_kinds, from_bytes
from sitq.exceptions import ValidationError
from sitq.queue.base import QueueBase

L = TypeVar("L", bound=EventListener)

_PAGE: Final = 500
_FLOOR: Final = 1.0
"""Seconds between looks at a stream of which nobody tells: the floor under hints that get lost."""

_POLL: Final = 0.1
"""The same of a store that cannot push."""


class Watching(QueueBase):
    """Tells what happens to tasks."""

    @overload
    def on(self, listener: L, /) -> L: ...
    @overload
    def on(self, *kinds: EventKind) -> Callable[[L], L]: ...
    def on(self, *given: Any) -> Any:
        """Tell a listener what this queue does: `@queue.on`, or `@queue.on("enqueued", "cancelled")`.

        It is called with each `TaskEvent` after the store has taken it: an async function in the event loop,
        any other in a thread of its own. One that raises or is slow hurts nobody; if 10,000 events wait for
        it, the oldest are dropped, and a `gap` says how many. A worker that `sitq worker` makes of this queue
        tells it what becomes of its tasks; what other processes do is in the stream.

        Raises:
            ValidationError: There is no such kind, or the listener cannot be called with an event.
        """
        return self._listeners.on(*given)

    def off(self, listener: EventListener) -> None:
        """Tell a listener no more. Without effect if it was not told."""
        self._listeners.remove(listener)

    async def events(
        self, after: int | None = 0, *, kinds: Iterable[EventKind] = (), follow: bool = True
    ) -> AsyncGenerator[TaskEvent]:
        """The durable stream: what all queues and workers with `keep_events` did, in their order.

        A reader that was away goes on where it was, by the `cursor` of the last event that it has seen. If
        events after it have been dropped meanwhile, a `gap` comes first and says how many. A cursor beyond
        the end is not of this stream: the store was made anew, or has lost its newest events. Then a `gap`
        with the cursor 0 comes first, and all that is kept after it.

        Args:
            after: The cursor to go on after. 0 is all that is kept, `None` only what comes from now on.
            kinds: Only events of these kinds, and gaps.
            follow: Whether to wait for more at the end of what is there.

        Raises:
            ValidationError: `after` is no cursor, or there is no such kind.
        """
        wanted = frozenset(checked_kinds(tuple(kinds)))
        if after is not None and (type(after) is not int or after < 0):
            raise ValidationError(f"after must be the cursor of an event, 0 or None, not {after!r}")
        await self._session()
        listener = self.backend.listen({log_topic(STREAM)})
        try:
            cursor = await self._newest() if after is None else after
            if after and not await self.backend.read(
                STREAM, after - 1, 1
            ):  # not even that one, nor any later
                yield TaskEvent(kind="gap", at=datetime.now(UTC), cursor=0)
                cursor = 0
            while True:
                page = await self.backend.read(STREAM, cursor, _PAGE)
                if page and cursor and page[0].number > cursor + 1:
                    yield TaskEvent(
                        kind="gap",
                        at=moment(page[0].at),
                        missed=page[0].number - cursor - 1,
                        cursor=page[0].number - 1,
                    )
                for each in page:
                    cursor = each.number
                    event = from_bytes(each.data, cursor)
                    if event is not None and (not wanted or event.kind in wanted or event.kind == "gap"):
                        yield event
                if page:
                    continue
                if not follow:
                    return
                await listener.wait(_FLOOR if self.backend.traits.pushes else _POLL)
        finally:
            listener.close()

    async def _newest(self) -> int:
        cursor = 0
        while page := await self.backend.read(STREAM, cursor, 10 * _PAGE):
            cursor = page[-1].number
        return cursor
