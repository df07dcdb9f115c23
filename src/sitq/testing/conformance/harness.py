"""What the suite must know of a store: how one is opened, seen again, and how its time passes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from sitq.backends.base import Backend

START = 1_800_000_000_000_000
"""Where a manual clock begins: an instant in 2027, in microseconds since the Unix epoch."""


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        """The instant, in microseconds since the Unix epoch."""
        return self.now

    def advance(self, microseconds: int) -> None:
        """Let time pass."""
        self.now += microseconds


class Harness(ABC):
    """Joins a store to the suite. Each test makes one of its own, with a folder of its own.

    Attributes:
        folder: An empty folder for the test's files.
        clock: The clock of this test, to be injected into the store if it can take one.
        frozen: Whether the store reads `clock`. The suite then also tests the very
            microsecond.
        unit: The suite's smallest span, in seconds. A store with a clock of its own is waited for in
            earnest: a span should be long enough for a dozen of its operations.
    """

    frozen: ClassVar[bool] = False
    unit: ClassVar[float] = 0.3

    def __init__(self, folder: Path, clock: ManualClock | None = None) -> None:
        self.folder = folder
        self.clock = clock or ManualClock()

    @abstractmethod
    async def open(self) -> Backend:
        """Connect a backend to a store that is new, empty and nobody else's."""

    async def reopen(self, backend: Backend, namespace: str | None = None) -> Backend:
        """Connect one more backend object to the store of `backend`, in its namespace or in another.

        Needed where `traits` say `durable` or `shared`.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.reopen: a second object on the store of {backend!r}"
        )

    async def advance(self, backend: Backend, seconds: float) -> None:  # noqa: ARG002 - for those who need it
        """Let time pass for the store."""
        if self.frozen:
            self.clock.advance(round(seconds * 1_000_000))
        else:
            await asyncio.sleep(seconds)

    async def corrupt(self, backend: Backend, id: str) -> None:
        """Damage the stored record of a task so that it cannot be read any more.

        Where it is not overridden, the promises about damage are left out.
        """
        raise NotImplementedError

    async def discard(self, backend: Backend) -> None:
        """Let go of a backend after the test, and of its store where that is not in `folder`."""
        await backend.close()

    @property
    def can_reopen(self) -> bool:
        """Whether `reopen` is there."""
        return type(self).reopen is not Harness.reopen

    @property
    def can_corrupt(self) -> bool:
        """Whether `corrupt` is there."""
        return type(self).corrupt is not Harness.corrupt
