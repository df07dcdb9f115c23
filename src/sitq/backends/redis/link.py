"""Calls of scripts, repeated where that can do no harm."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from redis import exceptions as driver
from redis.client import NEVER_DECODE

from sitq.backends.redis.demotion import leave, leave_in_thread
from sitq.backends.redis.errors import DRIVER, code_of, is_demoted, once_more, translated
from sitq.backends.redis.line import Line
from sitq.backends.redis.location import AnyClient
from sitq.backends.redis.scripts import script
from sitq.backends.redis.wire import LostError
from sitq.clock import Clock
from sitq.exceptions import BackendError

STEP: Final = 2000
"""How many keys of the database a step of a rebuild looks at."""


AT_ONCE: Final = 8
"""How many calls a client has under way at once, each on a connection: a server runs one script at a time."""


LOSSES: Final = 10
"""How often a call is said again whose wire broke: many share one, and any of them may be what breaks it."""


class Dialect:
    """What is known of a server, and what its clients share: how scripts are named and called there."""

    def __init__(self, namespace: str, clock: Clock | None) -> None:
        self.prefix = f"{{{namespace}}}:"
        self.flagged = True
        self.clock = clock
        self._ahead: int | None = None

    def arguments(self, name: str, values: tuple[Any, ...], *, whole: bool) -> tuple[Any, ...]:
        """The command that calls a script, by its name on the server or with its `whole` text."""
        text, sha = script(name, flagged=self.flagged)
        instant = b"" if self.clock is None else str(self.clock())
        how = ("EVAL", text) if whole else ("EVALSHA", sha)
        return (*how, 1, self.prefix, instant, *values)

    def other_way(self, error: Exception, *, whole: bool) -> bool | None:
        """Whether to call once more with the `whole` text; None if the error says something else."""
        if code_of(error) == "NOSCRIPT":
            return True
        if self.flagged and whole and isinstance(error, driver.ResponseError) and "compiling" in str(error):
            self.flagged = False  # before Redis 7, a script with flags in its first line is none
            return True
        return None

    def asked(self) -> int:
        """What the server's clock shows now, as far as is known; 0 if nothing is."""
        if self.clock is not None or self._ahead is None:
            return 0
        return time.monotonic_ns() // 1000 + self._ahead

    def told(self, sent: int, now: int) -> None:
        """Remember what the server's clock showed after something was sent at `sent`, by the monotonic clock.

        The latest answer counts alone, so a step of the server's clock is forgotten with the next one.
        """
        self._ahead = now - sent


class Link:
    """The calls of one event loop, over a line of its own (`wired`) or over a client of redis-py.

    A caller that is cancelled leaves its call to itself: a connection that was let go of in the middle of an
    answer would give the rest of it to the next caller (as in redis-py before 4.5.5, CVE-2023-28858).
    """

    def __init__(self, client: AnyClient, dialect: Dialect, shown: str, *, wired: bool) -> None:
        self.client = client
        self.dialect = dialect
        self.loop = asyncio.get_running_loop()
        self._shown = shown
        self._line = Line(client) if wired else None
        self._calls: set[asyncio.Task[Any]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self, operation: str, name: str, *values: Any) -> Any:
        """The answer of a script.

        Raises:
            ConnectionError: The server cannot be reached, or did not answer in time.
            ResourceExhaustionError: The server has no memory left.
            BackendError: It is another loop than the one that connected, or the server failed.
        """
        self.here(operation)
        try:
            return await self._call(name, values)
        except DRIVER as error:
            raise translated(error, self._shown, operation) from error

    def here(self, operation: str) -> None:
        """Raise `BackendError` in another event loop than the one that connected."""
        if asyncio.get_running_loop() is not self.loop:
            raise BackendError(
                f"the connections to {self._shown} belong to the event loop that opened them: "
                "use a URL, or a client and a backend object of its own in each event loop",
                operation=operation,
            )

    async def close(self) -> None:
        """Let what the server was told have its answer; the line is closed, the client is not."""
        if self._calls:
            await asyncio.wait(self._calls)
        if self._line is not None:
            await self._line.close()

    async def _call(self, name: str, values: tuple[Any, ...]) -> Any:
        whole = repeated = False
        losses = 0
        line = self._line
        while True:
            command = self.dialect.arguments(name, values, whole=whole)
            try:
                if line is None:
                    return await self._by_client(command)
                return await (line.wire or await line.connected()).say(command)
            except DRIVER as error:
                other = self.dialect.other_way(error, whole=whole)
                if other is not None:
                    whole = other
                elif code_of(error) == "SITQREBUILD":
                    await self._rebuild()
                elif isinstance(error, LostError) and losses < LOSSES:
                    losses += 1
                elif repeated or not once_more(error):
                    raise
                else:
                    repeated = True  # each script may be said twice
                    if line is None and is_demoted(error):
                        await leave(self.client)

    async def _rebuild(self) -> None:
        done = 0
        while not done:
            done, _ = await self._call("rebuild", (STEP,))

    async def _by_client(self, command: tuple[Any, ...]) -> Any:
        call = self.loop.create_task(self._in_the_room(command))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            call.add_done_callback(_forget)
            raise

    async def _in_the_room(self, command: tuple[Any, ...]) -> Any:
        async with self._room:
            return await self.client.execute_command(*command, **{NEVER_DECODE: True})


def run_in_thread(client: AnyClient, dialect: Dialect, name: str, *values: Any) -> Any:
    """The answer of a script, from a client without an event loop."""
    whole = repeated = False
    while True:
        command = dialect.arguments(name, values, whole=whole)
        try:
            return client.execute_command(*command, **{NEVER_DECODE: True})
        except DRIVER as error:
            other = dialect.other_way(error, whole=whole)
            if other is None:
                if repeated or not once_more(error):
                    raise
                repeated = True
                if is_demoted(error):
                    leave_in_thread(client)
            else:
                whole = other


def monotonic() -> int:
    """The instant of this host's monotonic clock, in microseconds."""
    return time.monotonic_ns() // 1000


def _forget(call: asyncio.Task[Any]) -> None:
    if not call.cancelled():
        call.exception()  # asyncio would complain that nobody has looked at it
