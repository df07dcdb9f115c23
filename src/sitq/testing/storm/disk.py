"""A small disk of a storm's own, which can be made full. Only on Linux, and only where we may mount."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18


class Disk:
    """A folder on a disk of its own, in a mount namespace that ends with the process.

    Attributes:
        small: Whether there is such a disk; otherwise it cannot be filled.
    """

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self._balloon = folder / "balloon"
        self._folder = folder
        self.small = _mount(folder, mebibytes)

    def fill(self) -> None:
        """Leave no room."""
        if not self.small:
            return
        with self._balloon.open("ab") as file:
            free = os.statvfs(self._folder)
            with contextlib.suppress(OSError):
                size = self._balloon.stat().st_size
                os.posix_fallocate(file.fileno(), size, max(1, free.f_bfree * free.f_bsize))

    def empty(self) -> None:
        """Give the room back."""
        self._balloon.unlink(missing_ok=True)


def _mount(folder: Path, mebibytes: int) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "unshare") or not _may_mount(library):
        return False
    if library.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return False
    return not library.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=%dm" % mebibytes)


def _may_mount(library: ctypes.CDLL) -> bool:
    """Go into a mount namespace of our own; who is not root needs a namespace of users for that, too."""
    user, group = os.geteuid(), os.getegid()
    if not user:
        return not library.unshare(_CLONE_NEWNS)
    if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        return False
    return True
