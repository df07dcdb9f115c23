"""How each store takes part in storms: one factory each, of a folder and a clock.

A store that lives in one process cannot take part, as storms kill processes. A store on a server has one that
is the storm's own, see `server.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sitq.backends import open_backend
from sitq.backends.base import Backend
from sitq.backends.sqlite import SQLiteBackend
from sitq.clock import Clock
from sitq.testing.storm.clock import pretend

STORES: Final = ("sqlite", "postgres", "redis")
"""The factories that are here."""

SERVED: Final = ("postgres", "redis")
"""Those whose store is on a server."""


def url_file(folder: Path) -> Path:
    """Where the URL of the storm's server is."""
    return folder / "url"


def sqlite(folder: Path, clock: Clock) -> Backend:
    """A SQLite file, as it is by default: synchronised at each commit."""
    return SQLiteBackend(folder / "tasks.db", clock=clock)


def postgres(folder: Path, clock: Clock) -> Backend:
    """A schema of the storm's PostgreSQL, whose clock decides: that of this process is wrong."""
    pretend(clock)
    return open_backend(f"{url_file(folder).read_text()}?namespace=storm&migrate=true")


def redis(folder: Path, clock: Clock) -> Backend:
    """A namespace of the storm's Redis, whose clock decides: that of this process is wrong."""
    pretend(clock)
    return open_backend(f"{url_file(folder).read_text()}?namespace=storm")
