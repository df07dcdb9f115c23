"""The way of a backend's calls to its server: one wire, and a new one whenever that is lost."""

from __future__ import annotations

import asyncio
import contextlib

from redis import exceptions as driver

from sitq.backends.redis.location import AnyClient
from sitq.backends.redis.wire import Wire, wire_to


class Line:
    """Calls on one wire, which is made when it is needed and shared by all callers."""

    def __init__(self, client: AnyClient) -> None:
        self._client = client
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[Wire] | None = None

    @property
    def wire(self) -> Wire | None:
        """The wire, if it is there."""
        wire = self._wire
        return None if wire is None or wire.lost else wire

    async def connected(self) -> Wire:
        """The wire, a new one if need be."""
        while (wire := self.wire) is None:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(self._connected_or_not)
            # Done whole, whatever becomes of a caller: nobody would close a connection that is made halfway.
            await asyncio.shield(self._connecting)
        return wire

    async def close(self) -> None:
        """Let what was said have its answers, then close the wire."""
        while self._connecting is not None or self._wire is not None:
            if self._connecting is not None:
                await asyncio.wait([self._connecting])
            wire = self._wire
            if wire is not None:
                await wire.settle()
            if self._connecting is None and self._wire is wire:  # nobody said anything more meanwhile
                self._wire = None
                if wire is not None:
                    await wire.close()

    async def _connect(self) -> Wire:
        old, self._wire = self._wire, None
        if old is not None:
            with contextlib.suppress(driver.RedisError, OSError):  # it is lost already
                await old.close()
        self._wire = await wire_to(self._client)
        return self._wire

    def _connected_or_not(self, connecting: asyncio.Task[Wire]) -> None:
        self._connecting = None
        if not connecting.cancelled():
            connecting.exception()  # those who wait may have gone
