"""The recorder: writes down what the SQLite of this very process does to its files.

It is the standard library's own SQLite, as users have it: its functions for files (its VFS) are replaced in
place by ones that write down what they are asked for, and then ask the original ones. Nothing is compiled,
and no second SQLite is loaded, which would break the locks of the first. Where the interpreter hides its
SQLite's functions, this cannot be done.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import itertools
import os
import sqlite3
import sys
import threading
import traceback
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path

from tape import Changed, Create, Event, Open, Sync, Synced, Tape, Truncate, Unlink, Unlinked, Write

OK = 0
ABANDONED = 70
"""The exit code of a process that could not be recorded any more."""


class Vfs(ctypes.Structure):
    """SQLite's `sqlite3_vfs`, https://sqlite.org/c3ref/vfs.html."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", c_void_p),
        ("xDelete", c_void_p),
        ("xAccess", c_void_p),
        ("xFullPathname", c_void_p),
        ("xDlOpen", c_void_p),
        ("xDlError", c_void_p),
        ("xDlSym", c_void_p),
        ("xDlClose", c_void_p),
        ("xRandomness", c_void_p),
        ("xSleep", c_void_p),
        ("xCurrentTime", c_void_p),
        ("xGetLastError", c_void_p),
        ("xCurrentTimeInt64", c_void_p),
        ("xSetSystemCall", c_void_p),
        ("xGetSystemCall", c_void_p),
        ("xNextSystemCall", c_void_p),
    )


class Methods(ctypes.Structure):
    """SQLite's `sqlite3_io_methods` of version 3, https://sqlite.org/c3ref/io_methods.html."""

    _fields_ = (
        ("iVersion", c_int),
        ("xClose", c_void_p),
        ("xRead", c_void_p),
        ("xWrite", c_void_p),
        ("xTruncate", c_void_p),
        ("xSync", c_void_p),
        ("rest", c_void_p * 13),
    )


OpenCall = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
DeleteCall = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
WriteCall = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TruncateCall = CFUNCTYPE(c_int, c_void_p, c_int64)
SyncCall = CFUNCTYPE(c_int, c_void_p, c_int)
FolderCall = CFUNCTYPE(c_int, c_char_p, c_void_p)
GetCall = CFUNCTYPE(c_void_p, c_void_p, c_char_p)
SetCall = CFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p)


def library() -> ctypes.CDLL | str:
    """The SQLite that `sqlite3` uses in this process, or why it cannot be recorded."""
    if os.name != "posix":
        return f"crash images are recorded on POSIX systems only, and this is {sys.platform}"
    file = getattr(_sqlite3, "__file__", None)
    try:
        found = ctypes.CDLL(file)  # what it is linked with is found through it; None is the interpreter
        found.sqlite3_libversion.restype = c_char_p
        version = found.sqlite3_libversion().decode()
        found.sqlite3_vfs_find.restype = POINTER(Vfs)
    except (OSError, AttributeError) as error:
        return (
            f"crash images cannot be recorded with this Python, which hides the functions of its SQLite "
            f"({error}); one that is linked with the system's libsqlite3 shows them"
        )
    if version != sqlite3.sqlite_version:
        return f"there are two SQLites here, {sqlite3.sqlite_version} and {version}: crash images need one"
    return found


class Recorder:
    """Writes down on a tape what happens to the files whose path begins with `prefix`, from now on."""

    def __init__(self, tape: Tape, prefix: str) -> None:
        found = library()
        if isinstance(found, str):
            raise SystemExit(found)
        self.note = tape.write
        self._prefix = prefix
        self._handles: dict[int, int] = {}
        self._numbers = itertools.count(os.getpid() << 24)
        self._tables: dict[int, Methods] = {}
        self._kept: list[object] = []
        self._here = threading.local()
        vfs = found.sqlite3_vfs_find(None)
        self._watch_folder(vfs)
        self._watch_files(vfs.contents)
        sys.addaudithook(self._audit)

    def _audit(self, name: str, given: tuple[object, ...]) -> None:
        """Files that Python makes. SQLite's own calls do not come along here."""
        if name == "open" and isinstance(given[2], int) and given[2] & os.O_CREAT and self._ours(given[0]):
            self.note(Create(Path(str(given[0])).name))

    def _ours(self, path: object) -> bool:
        return isinstance(path, str) and path.startswith(self._prefix) and not path.endswith("-shm")

    # -- the functions -------------------------------------------------------------------------------------

    def _replace(self, kind, old, function):
        """A function that does `function(the old one, …)`, to be put in the place of the old one."""
        real = kind(old)

        def call(*given):
            try:
                return function(real, *given)
            except BaseException:  # noqa: BLE001 - SQLite must not go on with what was not done
                traceback.print_exc()
                os._exit(ABANDONED)

        new = kind(call)
        self._kept += [real, new]
        return ctypes.cast(new, c_void_p).value

    def _watch_folder(self, vfs) -> None:
        """Notice when SQLite syncs the folder: it opens it for nothing else."""
        if not vfs.contents.xSetSystemCall:
            raise SystemExit("crash images need SQLite's VFS `unix`, and this is another one")

        def open_folder(real, path, into):
            self._here.folder = True
            return real(path, into)

        old = GetCall(vfs.contents.xGetSystemCall)(vfs, b"openDirectory")
        new = self._replace(FolderCall, old, open_folder)
        SetCall(vfs.contents.xSetSystemCall)(vfs, b"openDirectory", new)

    def _watch_files(self, vfs: Vfs) -> None:
        vfs.xOpen = self._replace(OpenCall, vfs.xOpen, self._open)
        vfs.xDelete = self._replace(DeleteCall, vfs.xDelete, self._delete)

    def _open(self, real, vfs, path, file, *flags):
        answer = real(vfs, path, file, *flags)  # the path as it came: SQLite reads beyond its end
        name = os.fsdecode(ctypes.string_at(path)) if path else ""
        if answer == OK and self._ours(name):
            self._handles[file] = next(self._numbers)
            table = ctypes.cast(file, POINTER(c_void_p))
            table[0] = self._table(table[0])
            self.note(Open(self._handles[file], Path(name).name))
        return answer

    def _table(self, address: int) -> int:
        """A copy of a table of methods, with those replaced that change something."""
        if address not in self._tables:
            copy = Methods()
            ctypes.memmove(ctypes.addressof(copy), address, ctypes.sizeof(copy))
            copy.xWrite = self._replace(WriteCall, copy.xWrite, self._write)
            copy.xTruncate = self._replace(TruncateCall, copy.xTruncate, self._truncate)
            copy.xSync = self._replace(SyncCall, copy.xSync, self._sync)
            self._tables[address] = copy
        return ctypes.addressof(self._tables[address])

    def _write(self, real, file, data, size, at):
        return self._change(
            real, Write(self._handles[file], at, ctypes.string_at(data, size)), file, data, size, at
        )

    def _truncate(self, real, file, size):
        return self._change(real, Truncate(self._handles[file], size), file, size)

    def _change(self, real, event: Event, file, *given):
        self.note(event)
        answer = real(file, *given)
        self.note(Changed(self._handles[file]))
        return answer

    def _sync(self, real, file, flags):
        self.note(Sync(self._handles[file]))
        self._here.folder = False
        answer = real(file, flags)
        if answer == OK:
            self.note(Synced(self._handles[file], self._here.folder))
        return answer

    def _delete(self, real, vfs, path, sync_folder):
        name = os.fsdecode(path)
        ours = self._ours(name)
        if ours:
            self.note(Unlink(Path(name).name))
        self._here.folder = False
        answer = real(vfs, path, sync_folder)
        if ours and answer == OK:
            self.note(Unlinked(Path(name).name, self._here.folder))
        return answer
