"""The tape: what several processes did to their files, and what they were told, in one order.

Each event is one `write` to a file that is only ever added to, so the order of the tape is that of real time:
what begins is written down before it begins, what is over after it is over.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One line of the tape."""


class Create(Event, frozen=True):
    """A name is about to be made in the folder, otherwise than by SQLite."""

    name: str


class Open(Event, frozen=True):
    """SQLite has opened a file, and made it if there was none. A handle is never used again."""

    handle: int
    name: str


class Write(Event, frozen=True):
    """Bytes are about to be written."""

    handle: int
    at: int
    data: bytes


class Truncate(Event, frozen=True):
    """A file is about to get this size."""

    handle: int
    size: int


class Changed(Event, frozen=True):
    """The last write or truncation of this handle is over."""

    handle: int


class Sync(Event, frozen=True):
    """A sync is about to begin: it is about all that was over before it."""

    handle: int


class Synced(Event, frozen=True):
    """The sync of this handle is over; `folder`: that of the folder, too."""

    handle: int
    folder: bool


class Unlink(Event, frozen=True):
    """A name is about to be removed."""

    name: str


class Unlinked(Event, frozen=True):
    """A name has been removed; `folder`: and the folder synced."""

    name: str
    folder: bool


class Asked(Event, frozen=True):
    """The store is about to be asked for something."""

    deed: int
    kind: str


class Told(Event, frozen=True):
    """The store has answered. Its effects: on what, in which place of its story, what holds from now on."""

    deed: int
    effects: list[tuple[str, list[int], dict[str, Any]]]


AnyEvent = Create | Open | Write | Truncate | Changed | Sync | Synced | Unlink | Unlinked | Asked | Told

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyEvent).decode


class Tape:
    """A tape that is written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, event: Event) -> None:
        line = _encode(event)
        os.write(self._file, len(line).to_bytes(4, "big") + line)


def read(path: str | os.PathLike[str]) -> list[AnyEvent]:
    """All that is on a tape."""
    data = memoryview(Path(path).read_bytes())
    events, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        events.append(_decode(data[at + 4 : end]))
        at = end
    return events
