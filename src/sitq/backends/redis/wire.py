"""A connection on which calls follow each other without waiting for answers, which come in the same order.

redis-py makes the connection: it knows hosts, TLS, logins and Sentinels. Then this takes it over, since what
costs most of a call is the way through the client: with the locks, tasks and timers of one command of
`redis.asyncio` go three to five of these.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis import exceptions as driver

from sitq.backends.redis.errors import is_demoted
from sitq.backends.redis.location import AnyClient


def _parser() -> Any:
    try:
        parser: Any = importlib.import_module("hiredis")
    except ImportError:
        return None
    return parser if hasattr(parser, "pack_command") else None


_hiredis: Final = _parser()
"""The parser in C, or None: then the client of redis-py does everything."""

NEVER: Final = object()
"""What the parser says when an answer is not there yet, or not whole."""


class LostError(driver.ConnectionError):
    """The wire broke while an answer was due."""


def can_wire(client: AnyClient) -> bool:
    """Whether a client's server can be reached so."""
    return _hiredis is not None and hasattr(getattr(client, "connection_pool", None), "make_connection")


async def wire_to(client: AnyClient, told: Callable[[Any], None] | None = None) -> Wire:
    """A new connection to a client's server, which redis-py made ready; `told` as `Wire` has it.

    Whoever is cancelled meanwhile leaves it open: call it where that does not happen.
    """
    connection = client.connection_pool.make_connection()
    try:
        await connection.connect()
        return Wire(connection, told)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


class Wire(asyncio.Protocol):
    """One connection, for one event loop.

    A caller that is cancelled takes nothing with it: its answer is read in its turn and goes to nobody. A
    server that is silent for the connection's timeout while an answer is due is taken for away, and all who
    wait for one get a `TimeoutError` of the driver's; if the connection breaks, they get its
    `ConnectionError`.

    With `told` no answers are due, but all that the server says is handed to that, as to somebody who has
    subscribed.
    """

    def __init__(self, connection: Any, told: Callable[[Any], None] | None = None) -> None:
        self._connection = connection
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._timeout: float | None = connection.socket_timeout
        self._parser = _hiredis.Reader(
            protocolError=driver.InvalidResponse, replyError=_refusal, notEnoughData=NEVER
        )
        self._pushes: type[Any] | tuple[()] = getattr(_hiredis, "PushNotification", ())
        self._due: deque[asyncio.Future[Any]] = deque()
        self.heard = 0.0
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._watch: asyncio.TimerHandle | None = None
        self._all_heard: asyncio.Future[None] | None = None
        self.lost = False
        self._transport: Any = connection._writer.transport  # noqa: SLF001 - there is no public way to it
        self._before: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def say(self, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Send a command; what the future says is its answer."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._due:
            self.heard = self._loop.time()
            if self._watch is None and self._timeout is not None:
                self._watch = self._loop.call_later(self._timeout, self._look)
        self._due.append(answer)
        self._transport.write(_hiredis.pack_command(command))
        return answer

    def tell(self, command: tuple[Any, ...]) -> None:
        """Send a command whose answer, if there is one, is for `told`."""
        self._transport.write(_hiredis.pack_command(command))

    async def settle(self) -> None:
        """Wait until nothing is due any more."""
        if self._due:
            self._all_heard = self._all_heard or self._loop.create_future()
            await asyncio.shield(self._all_heard)

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        self.lost = True
        await self._connection.disconnect()

    # -- what the event loop says ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Give each whole answer to whom it is due."""
        parser, due = self._parser, self._due
        self.heard = self._loop.time()
        try:
            parser.feed(data)
            while (said := parser.gets()) is not NEVER:
                if self._told is not None:
                    self._told(said)
                    continue
                if isinstance(said, self._pushes):
                    continue  # of what the server may tell by itself nothing was asked for
                answer = due.popleft()
                if answer.done():
                    continue  # its caller was cancelled
                if isinstance(said, Exception):
                    if is_demoted(said):
                        self.lost = True  # another server is the master now, and a new connection may find it
                    answer.set_exception(said)
                else:
                    answer.set_result(said)
        except (driver.RedisError, IndexError) as error:
            self._give_up(driver.ConnectionError(f"the server's answer makes no sense: {error!r}"))
        if self._all_heard is not None and not due:
            self._hear_all()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait."""
        self._give_up(LostError(f"the connection is lost: {exc or 'the server closed it'}"))
        self._before.connection_lost(exc)

    # -- what may be amiss -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look whether the server has been silent for too long."""
        self._watch = None
        if not self._due or self._timeout is None:
            return
        left = self.heard + self._timeout - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._give_up(driver.TimeoutError("Timeout reading from the server"))

    def _give_up(self, why: Exception) -> None:
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport.abort()
        if not self.ended.done():
            self.ended.set_result(None)
        while self._due:
            answer = self._due.popleft()
            if not answer.done():
                answer.set_exception(type(why)(*why.args))  # one for all would collect their tracebacks
        if self._all_heard is not None:
            self._hear_all()

    def _hear_all(self) -> None:
        if self._all_heard is not None and not self._all_heard.done():
            self._all_heard.set_result(None)
        self._all_heard = None


def _refusal(text: str) -> driver.ResponseError:
    """The driver's own error for what a server refuses, as far as the difference matters here."""
    if text.startswith("NOPERM "):
        return driver.NoPermissionError(text)
    if text.startswith("READONLY ") or "-READONLY " in text:  # the latter from a script, before Redis 7
        return driver.ReadOnlyError(text)
    return driver.ResponseError(text)
