"""How the conformance suite and the model open a store in Redis."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, ClassVar, Final

import redis.asyncio

from sitq.backends.base import Backend
from sitq.backends.redis import RedisBackend
from sitq.backends.redis.location import locate
from sitq.testing.conformance import Harness, ManualClock

_driver: Final[Any] = redis.asyncio
"""Its own types are partly unknown."""


class RedisHarness(Harness):
    """Gives each test a namespace of its own on one server, and sees that no index got lost in it.

    Attributes:
        url: The server, or the cluster.
    """

    unit = 0.3
    url: ClassVar[str] = ""

    def __init__(self, folder: Path, clock: ManualClock | None = None) -> None:
        super().__init__(folder, clock)
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self._eras: dict[str, Any] = {}

    def client(self) -> Any:
        """A client for what a backend would not do."""
        if self.url.startswith("redis+cluster:"):
            node = locate(self.url).nodes[0]
            return _driver.RedisCluster(*node)
        return _driver.Redis.from_url(self.url)

    async def open(self) -> Backend:
        return await self._at(self.namespace)

    async def reopen(self, backend: Backend, namespace: str | None = None) -> Backend:
        return await self._at(backend.namespace if namespace is None else f"{self.namespace}.{namespace}")

    async def _at(self, namespace: str) -> Backend:
        clock = self.clock if self.frozen else None
        backend = RedisBackend(self.url, namespace=namespace, clock=clock)
        await backend.connect()
        if namespace not in self._eras:
            self._eras[namespace] = await self._era(namespace)
        return backend

    async def _era(self, namespace: str) -> Any:
        async with self.client() as client:
            return await client.hget(f"{{{namespace}}}:meta", "era")

    async def corrupt(self, backend: Backend, id: str) -> None:
        async with self.client() as client:
            assert await client.hset(f"{{{backend.namespace}}}:t:{id}", "b", b"\xc1") == 0

    async def discard(self, backend: Backend) -> None:
        await super().discard(backend)
        era = self._eras.pop(backend.namespace, None)
        if era is None:  # another object of the same store was discarded before
            return
        rebuilt = await self._era(backend.namespace) != era
        async with self.client() as client:
            keys = [key async for key in client.scan_iter(f"{{{backend.namespace}}}:*", count=5000)]
            if keys:
                await client.unlink(*keys)
        assert not rebuilt, "an index of the store got lost"


class StoppedRedisHarness(RedisHarness):
    """The same with a clock that stands still."""

    frozen = True
    unit = 1.0
