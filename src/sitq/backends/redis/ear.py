"""A connection that is subscribed to channels: on a wire, or by a client of redis-py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from sitq.backends.redis.location import AnyClient
from sitq.backends.redis.wire import Wire, wire_to

QUIET: Final = 2.5
"""Seconds without a message after which the server is asked for a sign of life."""

PATIENCE: Final = 7.5
"""Seconds without any message after which the connection is given up."""

_NEWS: Final = (b"message", b"subscribe")

Told = Callable[[str], None]


class Ear(Protocol):
    """A connection; `told` gets a channel when it is subscribed to, and for each message in it."""

    async def subscribe(self, *channels: str) -> None:
        """Hear more channels."""
        ...

    async def unsubscribe(self, *channels: str) -> None:
        """Hear fewer channels."""
        ...

    async def hear(self) -> None:
        """Hand on what is heard; raises when the connection is lost or the server is silent for too long."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


async def ear_at(client: AnyClient, first: str, told: Told, *, wired: bool) -> Ear:
    """A new connection that hears a first channel, since one without any cannot be read."""
    ear = await _whole(_wire_ear(client, told)) if wired else ClientEar(client, told)
    try:
        await _whole(ear.subscribe(first))
    except BaseException:
        await _closed(ear)
        raise
    return ear


async def _wire_ear(client: AnyClient, told: Told) -> Ear:
    return WireEar(await wire_to(client, told=_heard(told)))


def _heard(told: Told) -> Callable[[Any], None]:
    def hear(said: Any) -> None:
        if isinstance(said, Exception):
            raise said
        match said:
            case [kind, bytes(channel), *_] if kind in _NEWS:
                told(channel.decode())
            case _:
                pass  # a sign of life, or the end of a subscription

    return hear


class WireEar:
    """On a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def subscribe(self, *channels: str) -> None:
        """Hear more channels."""
        self._wire.tell(("SUBSCRIBE", *channels))

    async def unsubscribe(self, *channels: str) -> None:
        """Hear fewer channels."""
        self._wire.tell(("UNSUBSCRIBE", *channels))

    async def hear(self) -> None:
        """Hand on what is heard."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not self._wire.lost:
            await asyncio.wait([self._wire.ended], timeout=QUIET)
            silent = loop.time() - max(begun, self._wire.heard)
            if silent > PATIENCE:
                raise TimeoutError("the server is silent")
            if silent >= QUIET and not self._wire.lost:
                self._wire.tell(("PING",))
        raise OSError("the connection is lost")

    async def close(self) -> None:
        """Close the connection."""
        await self._wire.close()


class ClientEar:
    """By a client of redis-py."""

    def __init__(self, client: AnyClient, told: Told) -> None:
        self._pubsub: Any = client.pubsub()
        self._told = told
        self.subscribe = self._pubsub.subscribe
        self.unsubscribe = self._pubsub.unsubscribe
        self.close = self._pubsub.aclose

    async def hear(self) -> None:
        """Hand on what is heard."""
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            message = await self._pubsub.get_message(timeout=QUIET)
            if message is None:
                if loop.time() - heard > PATIENCE:
                    raise TimeoutError("the server is silent")
                await self._pubsub.ping()
                continue
            heard = loop.time()
            if message["type"].encode() in _NEWS:
                channel = message["channel"]
                self._told(channel.decode() if isinstance(channel, bytes) else channel)


async def _whole(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Wait for it; a connection that is let go of while it is made would be closed by nobody."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None and task.result() is not None:
            await _closed(task.result())
        raise


async def _closed(ear: Ear) -> None:
    with contextlib.suppress(Exception):  # what is broken already cannot be closed any more
        await ear.close()
