"""Many awaiting callers, one call: the batching that makes every store fast."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Coalescer(Generic[Item, Answer]):
    """Collects what callers of one event loop submit while a call is under way, and sends it as the next one.

    An idle coalescer adds no waiting: what is submitted in the same turn of the loop goes at once, together.
    Each caller gets the answer to its own item. If the call itself fails, everybody in that batch gets the
    error. A caller that is cancelled does not take its item back.
    """

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        *,
        most: int = 1000,
        weigh: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._call = call
        self._most = most
        self._weigh = weigh
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._flushing: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """Hand in an item and wait for its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush())
        return await future

    async def drain(self) -> None:
        """Wait until everything that was submitted has its answer."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])

    def cancel(self) -> None:
        """Give up what is under way; whoever waits for it is cancelled."""
        if self._flushing is not None:
            self._flushing.cancel()

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._send(self._next_batch())
        finally:
            self._flushing = None
            if self._waiting:  # this flush was cancelled; what is left has nobody else to send it
                for _, future in self._waiting:
                    future.cancel()
                self._waiting.clear()

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        weight = 0
        while self._waiting and (not batch or weight < self._most):
            entry = self._waiting.popleft()
            weight += self._weigh(entry[0])
            batch.append(entry)
        return batch

    async def _send(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._call([item for item, _ in batch])
            paired = list(zip(batch, answers, strict=True))
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(_own(error))
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), answer in paired:
            if not future.done():
                future.set_result(answer)


def _own(error: BaseException) -> BaseException:
    """The error for one caller: one raised in many tasks would collect all their tracebacks."""
    if not isinstance(error, Exception):
        return asyncio.CancelledError("the batch was cancelled before it had its answer")
    try:
        return copy.copy(error)
    except Exception:  # noqa: BLE001 - a foreign error may have an `__init__` that its copy does not fit
        return error
