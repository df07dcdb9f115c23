"""The memory store, beside a bare `asyncio.Queue`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.bodies import BODIES
from bench.goal import at_least
from bench.stores.store import RawStore, Store

_CONSUMERS = 100


class RawMemory(RawStore):
    """An `asyncio.Queue` and a hundred consumers."""

    async def connect(self) -> None:
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[int] | None]] = asyncio.Queue()

    async def close(self) -> None:
        pass

    async def enqueue(self, body: str) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self._queue.put((body, future))
        return future

    async def enqueue_many(self, body: str, n: int) -> None:
        for _ in range(n):
            self._queue.put_nowait((body, None))

    async def value(self, handle: asyncio.Future[int]) -> None:
        await handle

    async def take(self, n: int) -> Sequence[tuple[Any, str]]:
        queue = self._queue
        return [(future, body) for body, future in (queue.get_nowait() for _ in range(min(n, queue.qsize())))]

    async def settle(self, keys: Sequence[Any]) -> None:
        for future in keys:
            if future is not None:
                future.set_result(1)

    async def work(self, batch: int) -> None:  # noqa: ARG002 - a batch is one task here
        async with asyncio.TaskGroup() as group:
            for _ in range(_CONSUMERS):
                group.create_task(self._consume())

    async def _consume(self) -> None:
        while True:
            body, future = await self._queue.get()
            value = await BODIES[body]()
            if future is not None:
                future.set_result(value)


@contextmanager
def _fresh() -> Iterator[str]:
    yield "memory://"


STORE = Store(
    name="memory",
    fresh=_fresh,
    raw=RawMemory,
    version=lambda: "memory: in the measuring process",
    shared=False,
    goals={"drain": at_least(40_000)},
)
