"""Where a database file lies: what can be said about it before SQLite opens it.

The file is opened here only to be made, before any connection to it exists: POSIX drops all locks that a
process has on a file when it closes any descriptor of it, SQLite's included.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sitq.exceptions import ConfigurationError, ConnectionError  # noqa: A004 - the API's own word

MEMORY: Final = ":memory:"

NETWORK: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "ncpfs",
        "gfs2",
        "beegfs",
    }
)
"""File systems over which SQLite's locks and its shared memory cannot be relied upon."""


def mount_type(path: str) -> str:
    """The type of the file system under a path, or "" where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = fields[1].encode("latin-1", "replace").decode("unicode_escape", "replace")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def prepare(path: str, *, force: bool, lookup: Callable[[str], str] = mount_type) -> None:
    """Make sure that there is a file to open, made by us for us alone if there was none.

    Raises:
        ConnectionError: The file cannot be there, be made, be read or be written; the message says why.
        ConfigurationError: It lies on a network mount.
    """
    place = Path(path)
    folder = place.parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        hint = "; `~` is not expanded: use Path.expanduser()" if path.startswith("~") else ": make it first"
        raise ConnectionError(
            f"{path} cannot be opened: its folder {folder} {what}{hint}", operation="connect"
        )
    kind = lookup(str(folder))
    if (kind in NETWORK or kind.startswith("fuse.sshfs")) and not force:
        raise ConfigurationError(
            f"{path} lies on a network mount ({kind}), where SQLite's locks do not hold between hosts: use a "
            "local disk or a server, or pass force=True if one host alone uses it",
            operation="connect",
        )
    if place.is_dir():
        raise ConnectionError(f"{path} is a folder: name a file in it", operation="connect")
    _make(path)
    for what, right in (("read", os.R_OK), ("written", os.W_OK)):
        if not os.access(path, right, effective_ids=os.access in os.supports_effective_ids):
            raise ConnectionError(f"{path} cannot be {what}: check its permissions", operation="connect")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConnectionError(
            f"the folder {folder} cannot be written, and SQLite needs its log there: check its permissions",
            operation="connect",
        )


def _make(path: str) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise ConnectionError(f"{path} cannot be made: {error.strerror}", operation="connect") from error


def _owner(path: str) -> int | None:
    try:
        return Path(path).stat().st_uid
    except OSError:
        return None


def is_ours(path: str) -> bool:
    """Whether nobody but our user, or root, can have written the file or can replace it."""
    if path == MEMORY:
        return True
    if not hasattr(os, "geteuid"):
        return False
    try:
        file, folder = Path(path).stat(), Path(path).parent.stat()
    except OSError:
        return False
    owners = {0, os.geteuid()}
    # SQLite takes a log that lies beside the file for its own, whoever wrote it.
    if folder.st_uid not in owners or any(
        _owner(path + end) not in {None, *owners} for end in ("-wal", "-shm")
    ):
        return False
    if file.st_uid not in owners or file.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    return not folder.st_mode & stat.S_IWOTH or bool(folder.st_mode & stat.S_ISVTX)
