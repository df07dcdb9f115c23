"""The hold on a source: one copy at a time, and an interrupted one goes on to where it went."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import time
from typing import Any, Final, Self

import msgspec

from sitq.backends.base import Backend
from sitq.exceptions import CopyError
from sitq.ids import token
from sitq.record import DAY, SECOND

LOCK: Final = "copy/lock"
RUN: Final = "copy/run"
MARK: Final = "copy/to/"
_LENGTH: Final = 30.0


class Hold:
    """Says that this process copies from a store, as long as it lives."""

    def __init__(self, source: Backend, destination: Backend) -> None:
        self._source = source
        self._destination = destination
        self._value = msgspec.json.encode({"host": platform.node(), "process": os.getpid(), "token": token()})
        self._renewed = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self.run = ""

    async def __aenter__(self) -> Self:
        await self._lock()
        self._renewing = asyncio.create_task(self._renew())
        try:
            self.run = await self._begin()
        except BaseException:
            await self._release()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._release()

    def check(self) -> None:
        """Raise `CopyError` if another copy may have begun meanwhile."""
        if time.monotonic() - self._renewed > _LENGTH / 2:
            raise CopyError(
                f"the hold on {self._source!r} was not renewed for {_LENGTH / 2:.0f} s, so another copy may "
                "have begun: run the same command again, it goes on where this one stopped"
            )

    async def finish(self) -> None:
        """Say that nothing is on its way any more."""
        await self._source.swap(RUN, self.run.encode(), None)
        await self._destination.swap(MARK + self.run, b"", None)

    async def _lock(self) -> None:
        while True:
            seen = await _cell(self._source, LOCK)
            if seen is not None and _lives(seen):
                raise CopyError(
                    f"another copy from {self._source!r} is under way: {seen.decode(errors='replace')}; wait "
                    f"for its end, or for {_LENGTH:.0f} s if it was ended by force"
                )
            begun = time.monotonic()
            if await self._source.swap(LOCK, seen, self._value, round(_LENGTH * SECOND)):
                self._renewed = begun
                return

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_LENGTH / 6)
            begun = time.monotonic()
            with contextlib.suppress(Exception):  # `check` tells when it has failed for too long
                if await self._source.swap(LOCK, self._value, self._value, round(_LENGTH * SECOND)):
                    self._renewed = begun

    async def _begin(self) -> str:
        """The run that is to go on, or a new one."""
        seen = await _cell(self._source, RUN)
        if seen is not None:
            run = seen.decode()
            if await _cell(self._destination, MARK + run) is None:
                raise CopyError(
                    f"an interrupted copy from {self._source!r} went to another store than "
                    f"{self._destination!r}: let that one end first, with the same command"
                )
        else:
            run = token()
            await self._destination.swap(MARK + run, None, b"", 365 * DAY)
            if await _cell(self._source, MARK + run) is not None:
                await self._destination.swap(MARK + run, b"", None)
                raise CopyError(f"{self._source!r} and {self._destination!r} are the same store")
            await self._source.swap(RUN, None, run.encode())
        return run

    async def _release(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        with contextlib.suppress(Exception):  # it ends by itself
            await self._source.swap(LOCK, self._value, None)


def _lives(seen: bytes) -> bool:
    """Whether a holder may still be at work: one of this host that is gone is not."""
    try:
        holder: dict[str, Any] = msgspec.json.decode(seen, type=dict[str, Any])
        if holder["host"] != platform.node() or os.name != "posix":
            return True
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return False
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError):
        return False
    except OSError:
        return True
    return True


async def _cell(backend: Backend, key: str) -> bytes | None:
    return next((cell.value for cell in await backend.cells(key) if cell.key == key), None)
