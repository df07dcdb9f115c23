"""A TCP proxy on the loopback that does to connections what networks do to them.

It runs on a thread of its own, so a blocked event loop of the test blocks no byte, and it is told what to do
from any thread. Replies flow from the server to the client, requests the other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from typing import Any, Final, Literal, Self

import msgspec

LOOPBACK: Final = "127.0.0.1"
CHUNK: Final = 65_536
QUIET: Final = 0.01
"""Seconds without another byte after which a reply counts as complete."""

_CONTROL_WITHIN: Final = 10.0
_LONGEST_WORD: Final = 64  # of what is looked for in requests
_MOST_CHUNKS: Final = 64  # under way in one direction of a connection

Direction = Literal["requests", "replies"]


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How bytes travel.

    Attributes:
        delay: Seconds that each byte is under way.
        jitter: Up to so many seconds more, drawn anew for each chunk; the order is kept.
        drip: Bytes that are passed on at once; 0 is as they come.
        pause: Seconds between two drips.
    """

    delay: float = 0.0
    jitter: float = 0.0
    drip: int = 0
    pause: float = 0.0


FAIR: Final = Weather()


class Counts(msgspec.Struct):
    """What the proxy has seen and done."""

    connections: int = 0
    refused: int = 0
    swallowed: int = 0
    cut: int = 0
    reset: int = 0


class Proxy:
    """Stands between a client and a server on the loopback: `with Proxy(port) as proxy`.

    Attributes:
        target: The server's port; another one holds for new connections, as when a name leads elsewhere.
        port: Where it listens, the same for as long as it lives.
        weather: How bytes travel from now on; may be set at any time.
        counts: What it has seen and done.
        kept_from: What stood in the requests whose answers `swallow_firsts` swallowed.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.target = target
        self.port = 0
        self.weather = FAIR
        self.counts = Counts()
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sitq-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._swallow: tuple[bytes, int] = (b"", 0)
        self._firsts: re.Pattern[bytes] | None = None
        self.kept_from: set[bytes] = set()
        self._cut: tuple[int, int] = (0, 0)
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, server: str) -> str:
        """The URL of the server behind it, as a client that goes through it needs it."""
        return server.replace(f":{self.target}", f":{self.port}")

    # -- what it is told -----------------------------------------------------------------------------------

    def hold(self, *, forget: bool = False) -> None:
        """Become a black hole: pass nothing on, end no connection, and take new ones without an answer.

        After `heal` all that was held is passed on, as TCP would send it again; with `forget` the present
        connections stay dumb for ever, as after the crash of a machine in between.
        """
        self._do(self._hold(forget=forget))

    def refuse(self) -> None:
        """Take no new connections: whoever tries is told so at once. Present ones go on."""
        self._do(self._refuse())

    def reset(self) -> None:
        """Break all present connections off (RST)."""
        self._do(self._reset())

    def half_close(self, direction: Direction) -> None:
        """End one direction of all present connections (FIN): the other one goes on."""
        self._do(self._half_close(direction))

    def swallow(self, marker: bytes, times: int = 1) -> None:
        """Let the server answer the next so many requests that have the marker in them, and keep the answer.

        The connection is broken off instead. The marker has to come in one piece.
        """
        self._do(self._set("_swallow", (marker, times)))

    def swallow_firsts(self, pattern: bytes) -> None:
        """Do so with each request in which something stands that fits, and that no request before it had.

        What it was is in `kept_from`. Nothing that fits may be longer than 64 bytes.
        """
        self._do(self._set("_firsts", re.compile(pattern)))

    def cut(self, after: int, times: int = 1) -> None:
        """Break a connection off after so many bytes of its next replies, as often as that."""
        self._do(self._set("_cut", (after, times)))

    def heal(self) -> None:
        """Let everything pass again: take connections, open the black hole, forget what was ordered."""
        self._do(self._heal())

    def flap(self, times: int, within: float) -> None:
        """Break all connections off and refuse new ones for a moment, so many times; then be healed.

        Returns when it is over.
        """
        moment = within / times / 2
        for _ in range(times):
            self.refuse()
            self.reset()
            time.sleep(moment)
            self.heal()
            time.sleep(moment)

    # -- life ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CONTROL_WITHIN)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(_CONTROL_WITHIN)

    # -- in its own thread ---------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, backlog=512)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _hold(self, *, forget: bool) -> None:
        self._open.clear()
        if forget:
            for link in self._links:
                link.forgotten = True

    async def _reset(self) -> None:
        for link in list(self._links):
            self.counts.reset += 1
            link.reset()

    async def _half_close(self, direction: Direction) -> None:
        for link in self._links:
            link.end(direction)

    async def _set(self, name: str, value: object) -> None:
        setattr(self, name, value)

    async def _heal(self) -> None:
        self.weather = FAIR
        self._swallow, self._cut, self._firsts = (b"", 0), (0, 0), None
        self._open.set()
        await self._listen()

    async def _shut(self) -> None:
        await self._refuse()
        await self._reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports are told of their end

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.counts.connections += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.serve()
        except asyncio.CancelledError:
            pass  # the proxy shuts
        finally:
            link.reset()
            self._links.discard(link)
            self._tasks.discard(task)

    async def passage(self) -> None:
        """Wait while there is a black hole."""
        await self._open.wait()

    def travel(self) -> float:
        """Seconds that the next chunk is under way."""
        weather = self.weather
        return weather.delay + self._dice.random() * weather.jitter

    def swallows(self, request: bytes) -> bool:
        """Whether the answer to this request is to be kept."""
        marker, times = self._swallow
        if not times or marker not in request:
            return False
        self._swallow = (marker, times - 1)
        return True

    def swallows_first(self, request: bytes) -> bool:
        """The same, for what stands in it for the first time."""
        if self._firsts is None:
            return False
        new = set(self._firsts.findall(request)) - self.kept_from
        self.kept_from |= new
        return bool(new)

    def cuts(self) -> int | None:
        """After how many bytes of replies a connection that is asked for the first time is to break off."""
        after, times = self._cut
        if not times:
            return None
        self._cut = (after, times - 1)
        return after


class _Link:
    """One connection of a client, and the one to the server behind it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.forgotten = False
        self.ended: set[Direction] = set()
        self._proxy = proxy
        self._client = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._swallowing = False
        self._tail = b""
        self._left: int | None = None

    async def serve(self) -> None:
        await self._proxy.passage()
        try:
            self._server = await asyncio.open_connection(LOOPBACK, self._proxy.target)
        except OSError:
            self._proxy.counts.refused += 1
            return
        requests = _Pipe("requests", self._client[0], self._server[1], self._proxy, self)
        replies = _Pipe("replies", self._server[0], self._client[1], self._proxy, self)
        with contextlib.suppress(OSError):
            await asyncio.gather(requests.run(), replies.run())

    async def through(self, direction: Direction, data: bytes) -> bytes | None:
        """What of the bytes is passed on; None breaks the connection off."""
        if direction == "requests":
            # What is looked for may begin in one piece and end in the next.
            swallows = self._proxy.swallows(data) or self._proxy.swallows_first(self._tail + data)
            self._swallowing = self._swallowing or swallows
            self._tail = (self._tail + data)[-_LONGEST_WORD:]
            return data
        return await self._reply(data)

    async def _reply(self, data: bytes) -> bytes | None:
        if self._swallowing:
            assert self._server is not None
            with contextlib.suppress(TimeoutError):
                while await asyncio.wait_for(self._server[0].read(CHUNK), QUIET):
                    pass
            self._proxy.counts.swallowed += 1
            return None
        if self._left is None:
            self._left = self._proxy.cuts()
        if self._left is not None:
            data, self._left = data[: self._left], max(0, self._left - len(data))
            if not self._left:
                self._proxy.counts.cut += 1
                await _say(self._client[1], data)
                return None
        return data

    def end(self, direction: Direction) -> None:
        """Pass nothing more on in this direction, and say that it has ended."""
        side = self._client if direction == "replies" else self._server
        if side is not None and direction not in self.ended and not side[1].is_closing():
            self.ended.add(direction)
            side[1].write_eof()

    def reset(self) -> None:
        """Break it off on both sides."""
        for side in (self._client, self._server):
            if side is not None:
                _break_off(side[1])


class _Pipe:
    """One direction of a connection: what is read is passed on when it has travelled."""

    def __init__(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        proxy: Proxy,
        link: _Link,
    ) -> None:
        self._direction: Direction = direction
        self._reader = reader
        self._writer = writer
        self._proxy = proxy
        self._link = link
        self._under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)

    async def run(self) -> None:
        sending = asyncio.ensure_future(self._send())
        try:
            await self._receive()
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _receive(self) -> None:
        while data := await self._reader.read(CHUNK):
            passed = await self._link.through(self._direction, data)
            if passed is None:
                self._link.reset()
                break
            await self._under_way.put((time.monotonic() + self._proxy.travel(), passed))
        await self._under_way.put((time.monotonic(), b""))  # the end

    async def _send(self) -> None:
        while True:
            due, data = await self._under_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._proxy.passage()
            if not self._link.forgotten and self._direction not in self._link.ended:
                if data:
                    await self._say(data)
                else:
                    self._link.end(self._direction)
            if not data or self._writer.is_closing():
                return

    async def _say(self, data: bytes) -> None:
        weather = self._proxy.weather
        if not weather.drip:
            await _say(self._writer, data)
            return
        for start in range(0, len(data), weather.drip):
            await self._proxy.passage()
            await _say(self._writer, data[start : start + weather.drip])
            await asyncio.sleep(weather.pause)


async def _say(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()


def _break_off(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and not writer.is_closing():
        with contextlib.suppress(OSError):  # a close without lingering is an RST
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
