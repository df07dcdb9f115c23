"""A process's own file of events: only ever added to, a line for each, in the kernel's hands when written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from sitq.ids import token
from sitq.testing.storm.events import AnyEvent, Born, Event

VARIABLE: Final = "SITQ_STORM"
"""The environment variable with the folder of the storm that a process belongs to."""

_encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(AnyEvent).decode
"""Reads a line."""


class Journal:
    """Open for as long as its process lives; a fork of the process gets one of its own.

    Args:
        folder: Where the journals of the storm lie; None is that of the storm which this process belongs to.
        role: What the process is; it becomes part of the file's name.
    """

    def __init__(self, folder: Path | None, role: str) -> None:
        self._folder = folder
        self._role = role
        self._pid = 0
        self._file = -1

    def write(self, event: Event) -> None:
        """Write an event down; a SIGKILL after this loses nothing."""
        self.open()
        os.write(self._file, _encode(event) + b"\n")

    def open(self) -> None:
        """Write down that this process is there, once."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        folder = self._folder or Path(os.environ[VARIABLE]) / "journals"
        path = folder / f"{self._role}-{self._pid}-{token()[:8]}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        born = Born(pid=self._pid, parent=os.getppid(), role=self._role)
        os.write(self._file, _encode(born) + b"\n")


def read(path: Path) -> list[AnyEvent]:
    """The events of a journal; what the end of its process cut short is left out."""
    lines = path.read_bytes().split(b"\n")
    return [decode(line) for line in lines[:-1] if line]


def read_all(folder: Path) -> dict[str, list[AnyEvent]]:
    """The events of all journals in a folder, by the name of the journal."""
    return {path.stem: read(path) for path in sorted(folder.glob("*.jsonl"))}
