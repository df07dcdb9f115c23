"""What a storm is told, and what its processes read from the environment."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Final

import msgspec

from sitq.backends.base import Backend
from sitq.testing.storm import stores
from sitq.testing.storm.clock import SteppedClock, make_clock
from sitq.testing.storm.journal import VARIABLE

SERIAL: Final = "serial"
"""The queue that one worker serves, one task after another."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """A storm's settings.

    Attributes:
        folder: Where the journals, the logs and, if it is a file, the store lie.
        store: `sqlite`, `postgres`, `redis`, or `module:function` of a factory of a folder and a clock.
        seed: What the plan of the faults is drawn from.
        seconds: How long the faults last.
        tasks: How many tasks are enqueued meanwhile.
        kills: How many workers are killed.
        lease: Seconds of a lease.
        workers: Single workers, besides those of the supervisor.
        supervised: Worker processes of the supervisor; 0 is none.
        concurrency: Tasks at once in each worker.
        poisons: How many tasks of each deadly kind are planted.
        within: Seconds within which a dead worker's tasks start again; 0 is what is promised.
        calm: Seconds for which the part that is well may end no open task before it is given up.
    """

    folder: str
    store: str = "sqlite"
    seed: int = 0
    seconds: float = 40.0
    tasks: int = 20_000
    kills: int = 200
    lease: float = 1.5
    workers: int = 5
    supervised: int = 2
    concurrency: int = 10
    poisons: int = 1
    calm: float = 60.0
    within: float = 0.0

    @property
    def place(self) -> Path:
        """The folder."""
        return Path(self.folder)

    @property
    def journals(self) -> Path:
        """The folder of the journals."""
        return self.place / "journals"

    @property
    def disk(self) -> Path:
        """The folder of the store, which may be a disk of its own."""
        return self.place / "disk"

    @property
    def served(self) -> str:
        """The kind of server that the store needs, "" if none."""
        return self.store if self.store in stores.SERVED else ""

    def save(self) -> None:
        """Write the settings where the storm's processes find them."""
        self.journals.mkdir(parents=True, exist_ok=True)
        self.disk.mkdir(exist_ok=True)
        make_clock(self.place / "clock")
        (self.place / "storm.json").write_bytes(msgspec.json.encode(self))

    def backend(self) -> Backend:
        """The store, by the storm's own clock."""
        module, _, name = self.store.rpartition(":")
        factory = getattr(importlib.import_module(module) if module else stores, name)
        backend: Backend = factory(self.disk, SteppedClock(self.place / "clock"))
        return backend


def present() -> Setup:
    """The settings of the storm that this process belongs to."""
    return msgspec.json.decode((Path(os.environ[VARIABLE]) / "storm.json").read_bytes(), type=Setup)
