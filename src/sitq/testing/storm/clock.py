"""A clock that all processes of a storm share and that its nemesis can step."""

from __future__ import annotations

import mmap
import os
import random
import struct
import time
from pathlib import Path
from typing import Final

from sitq.clock import Clock

_SIZE: Final = 8
_HOUR: Final = 3_600_000_000

_real: Final = time.time_ns
"""The host's, also after `pretend`."""


def make_clock(path: Path) -> None:
    """Make the file, before any process of the storm needs it."""
    path.write_bytes(bytes(_SIZE))


class SteppedClock:
    """The host's time of day and an offset that lies in a file: what a host sees whose clock is set."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), _SIZE)

    def __call__(self) -> int:
        """Microseconds since the epoch."""
        (offset,) = struct.unpack_from("<q", self._offset)
        return _real() // 1000 + int(offset)

    def step(self, seconds: float) -> None:
        """Set the clock forward, or back, for everyone."""
        (offset,) = struct.unpack_from("<q", self._offset)
        struct.pack_into("<q", self._offset, 0, offset + round(seconds * 1_000_000))


def pretend(clock: Clock) -> None:
    """Let this process take a clock for the time of day, which is up to an hour wrong besides.

    As on a host of its own whose clock nobody has set: nothing of a store on a server may depend on it.
    """
    wrong = random.Random(os.getpid()).randint(-_HOUR, _HOUR)
    time.time_ns = lambda: (clock() + wrong) * 1000
    time.time = lambda: (clock() + wrong) / 1_000_000
