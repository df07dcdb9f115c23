"""The Redis store, beside the driver with one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.asyncio import Redis

from bench.goal import at_least, at_most, of_the_other
from bench.stores.store import RawStore, Store
from sitq.testing.servers import RedisServer


class RawRedis(RawStore):
    """A stream with one group, read and acknowledged in batches; each result is a key of its own."""

    async def connect(self) -> None:
        self._client: Any = Redis.from_url(self.url)
        try:
            await self._client.xgroup_create("raw", "workers", "0", mkstream=True)
        except redis.ResponseError:  # another process made it
            return

    async def close(self) -> None:
        await self._client.aclose()

    async def enqueue(self, body: str) -> bytes:
        return await self._client.xadd("raw", {"body": body})

    async def enqueue_many(self, body: str, n: int) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for _ in range(n):
            pipeline.xadd("raw", {"body": body})
        await pipeline.execute()

    async def value(self, handle: bytes) -> None:
        while await self._client.get(b"result:" + handle) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.001)

    async def take(self, n: int) -> Sequence[tuple[Any, str]]:
        answer = await self._client.xreadgroup("workers", "one", {"raw": ">"}, count=n)
        if not answer:
            return []
        # As a list of pairs, or as a dictionary of lists of pages, by the protocol that was agreed on.
        entries = answer[b"raw"][0] if isinstance(answer, dict) else answer[0][1]
        return [(key, fields[b"body"].decode()) for key, fields in entries]

    async def settle(self, keys: Sequence[Any]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xack("raw", "workers", *keys)
        pipeline.xdel("raw", *keys)
        for key in keys:
            pipeline.set(b"result:" + key, b"1", ex=600)
        await pipeline.execute()


@contextmanager
def _fresh() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url()


STORE = Store(
    name="redis",
    fresh=_fresh,
    raw=RawRedis,
    version=lambda: f"redis: redis-py {redis.__version__}, appendonly, appendfsync everysec",
    goals={
        "enqueue-sequential": of_the_other(0.8),
        "enqueue-bulk": at_least(40_000),
        "drain": at_least(15_000),
        "start-p50": at_most(1.0),
        "result-p50": at_most(2.0),
    },
)
