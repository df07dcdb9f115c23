"""What the library, the file and its place make of the promises."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Final

from sitq.backends.sqlite.location import MEMORY, NETWORK, is_ours, mount_type
from sitq.checkup import Finding

MENDED: Final = (3, 51, 3)
"""The first version without the bug by which a WAL that is started anew can corrupt the file."""

SCARCE: Final = 1 << 30
"""Bytes of free disk below which a warning is due."""


def look(path: str, synchronous: str) -> list[Finding]:
    """All findings about a database file that is open."""
    found = [version(sqlite3.sqlite_version_info)]
    if path == MEMORY:
        why = "the store is in memory and ends with its process"
        return [*found, Finding(about="durability", level="warning", what=why, remedy="name a file")]
    return [
        *found,
        durability(synchronous),
        rights(path),
        place(mount_type(path)),
        disk(shutil.disk_usage(Path(path).parent).free),
    ]


def version(known: tuple[int, int, int]) -> Finding:
    """What the version of the library means."""
    name = ".".join(map(str, known))
    if known < MENDED:
        return Finding(
            about="version",
            level="warning",
            what=f"SQLite {name} has a rare bug: a write-ahead log that is started anew while another "
            "process writes can corrupt the file",
            remedy="use a Python with SQLite 3.51.3 or newer, or let one process use the file",
        )
    return Finding(about="version", level="fine", what=f"SQLite {name}")


def durability(synchronous: str) -> Finding:
    """What is left of an acknowledged enqueue after a loss of power."""
    if synchronous != "FULL":
        return Finding(
            about="durability",
            level="warning",
            what=f"synchronous is {synchronous}: a loss of power may lose the last acknowledged enqueues",
            remedy="leave synchronous at FULL",
        )
    return Finding(about="durability", level="fine", what="acknowledged enqueues survive a loss of power")


def rights(path: str) -> Finding:
    """Whether others can read or write the file."""
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if not is_ours(path):
        return Finding(
            about="rights",
            level="warning",
            what=f"others can write the file, its log or its folder (mode {mode:04o}): it is not trusted",
            remedy="chmod 600 the file, and let it and its folder belong to the user of the workers",
        )
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        return Finding(
            about="rights",
            level="warning",
            what=f"others can read the file (mode {mode:04o}), and with it the arguments of tasks",
            remedy="chmod 600 the file",
        )
    return Finding(about="rights", level="fine", what="only its owner can read and write the file")


def place(kind: str) -> Finding:
    """Whether the file system keeps SQLite's locks."""
    if kind in NETWORK or kind.startswith("fuse.sshfs"):
        return Finding(
            about="file system",
            level="error",
            what=f"the file lies on a network mount ({kind}), where locks do not hold between hosts",
            remedy="use a local disk or a server",
        )
    return Finding(about="file system", level="fine", what=f"a local file system ({kind or 'unknown'})")


def disk(free: int) -> Finding:
    """How much room is left."""
    what = f"{free / (1 << 30):,.1f} GiB are free on the disk"
    if free < SCARCE:
        return Finding(about="disk", level="warning", what=what, remedy="make room before it is full")
    return Finding(about="disk", level="fine", what=what)
