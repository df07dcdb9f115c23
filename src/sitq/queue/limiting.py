"""Limits of queues: how many of their tasks start and run, whoever enqueues them."""

from __future__ import annotations

from typing import Final

import msgspec

from sitq import limits as kinds
from sitq import validation
from sitq.backends.base import LIMIT_QUEUE
from sitq.backends.rules import limit_in
from sitq.exceptions import ValidationError
from sitq.limits import AnyLimit, ConcurrencyLimit, RateLimit
from sitq.queue.base import QueueBase
from sitq.record import SECOND, Limit

_TRIES: Final = 100


class Limiting(QueueBase):
    """Sets the limits that queues have of their own."""

    async def limit(self, *limits: AnyLimit, queue: str | None = None) -> None:
        """Limit all tasks of a queue, in all workers, whoever enqueued or will enqueue them.

        It takes the place of the queue's limits so far; without any limit it lifts them. It is kept in the
        store and holds at once, also for tasks that wait already. The limits that tasks name hold beside it.

        Args:
            limits: A `RateLimit`, a `ConcurrencyLimit`, or both; without keys.
            queue: The queue; by default that of this `TaskQueue`.

        Raises:
            ValidationError: There are two of a kind, or one has a key.
        """
        name = self.queue if queue is None else validation.name(queue)
        figures = _figures(name, kinds.limits(limits))
        value = None if figures is None else msgspec.json.encode(figures)
        await self._session()
        for _ in range(_TRIES):  # others may set it at the same time: the last one holds
            seen = await self._cell_of(name)
            if await self.backend.swap(LIMIT_QUEUE + name, seen, value):
                return

    async def limits(self, queue: str | None = None) -> list[AnyLimit]:
        """The limits that a queue has of its own."""
        name = self.queue if queue is None else validation.name(queue)
        await self._session()
        stored = limit_in(await self._cell_of(name))
        found: list[AnyLimit] = []
        if stored is not None and stored.rate is not None:
            found.append(RateLimit(stored.rate, stored.per / SECOND, burst=stored.burst))
        if stored is not None and stored.slots is not None:
            found.append(ConcurrencyLimit(stored.slots))
        return found

    async def _cell_of(self, name: str) -> bytes | None:
        key = LIMIT_QUEUE + name
        return next((cell.value for cell in await self.backend.cells(key) if cell.key == key), None)


def _figures(name: str, limits: tuple[AnyLimit, ...]) -> Limit | None:
    """Limits as one for the store; None if they limit nothing."""
    if any(limit.key is not None for limit in limits):
        raise ValidationError("the limits of a queue hold for all of its tasks; leave their key out")
    rates = [limit for limit in limits if isinstance(limit, RateLimit)]
    slots = [limit.slots for limit in limits if isinstance(limit, ConcurrencyLimit)]
    if len(rates) > 1 or len(slots) > 1:
        raise ValidationError(
            "a queue has one limit of each kind; give one RateLimit and one ConcurrencyLimit"
        )
    made = Limit(name, slots=slots[0] if slots else None)
    if rates and rates[0].rate is not None:
        (rate,) = rates
        figures = {"rate": rate.rate, "per": rate.period, "burst": rate.tolerance}
        made = msgspec.structs.replace(made, **figures)
    return None if made.slots is None and made.rate is None else made
