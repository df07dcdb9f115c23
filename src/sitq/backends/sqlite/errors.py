"""SQLite's errors as errors of sitq."""

from __future__ import annotations

import sqlite3

import msgspec

from sitq.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionError,  # noqa: A004 - the API's own word
    ResourceExhaustionError,
    SitqError,
)

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


def code_of(error: BaseException) -> int:
    """The primary result code, or 0 for an error that has none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether another connection was in the way, so that the same may work a moment later."""
    return code_of(error) in _BUSY


def is_full(error: BaseException) -> bool:
    """Whether the disk, or what the database may take of it, is full."""
    return code_of(error) == sqlite3.SQLITE_FULL


def is_misread(error: BaseException | None) -> bool:
    """Whether what was stored is not what sitq writes there, such as text where a number belongs."""
    if isinstance(error, sqlite3.OperationalError):
        # JSON cannot hold blobs, nor Python's text what is not UTF-8: neither error has a code of its own.
        return code_of(error) in {0, sqlite3.SQLITE_ERROR}
    return isinstance(error, msgspec.MsgspecError | UnicodeDecodeError | IndexError)


def translated(error: Exception, path: str, operation: str) -> Exception:
    """The error to raise instead; one that says nothing of what is stored stays as it is."""
    if isinstance(error, SitqError):
        return error
    if isinstance(error, sqlite3.Error) and code_of(error) not in {0, sqlite3.SQLITE_ERROR}:
        kind, said = _verdict(error, path)
    elif is_misread(error):
        kind, said = BackendError, f"{path} holds what sitq never writes: restore it, or begin a new file"
    elif isinstance(error, sqlite3.Error):
        kind, said = BackendError, f"{path} could not do what was asked"
    else:
        return error
    result = kind(f"{said} (SQLite: {error})", operation=operation)
    result.__cause__ = error
    return result


def _verdict(error: sqlite3.Error, path: str) -> tuple[type[SitqError], str]:
    match code_of(error):
        case sqlite3.SQLITE_FULL:
            return (
                ResourceExhaustionError,
                f"no room is left for {path}: free some on its disk, nothing was stored",
            )
        case sqlite3.SQLITE_NOTADB:
            return (
                ConfigurationError,
                f"{path} is not a SQLite database: name another file, or move it out of the way",
            )
        case sqlite3.SQLITE_CORRUPT:
            return (
                BackendError,
                f"{path} is damaged: restore it, or save what can be read with `sqlite3 {path} .recover`",
            )
        case sqlite3.SQLITE_READONLY:
            return (
                ConnectionError,
                f"{path} cannot be written: check its permissions, its folder's, and the mount",
            )
        case sqlite3.SQLITE_CANTOPEN:
            return (
                ConnectionError,
                f"{path} cannot be opened: check that it and its folder exist and may be written",
            )
        case sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return ConnectionError, f"{path} may not be used: check its permissions"
        case sqlite3.SQLITE_IOERR:
            return ConnectionError, f"the disk under {path} failed"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return (
                BackendError,
                f"{path} is locked by another program that keeps it for itself: end it, or its transaction",
            )
        case sqlite3.SQLITE_TOOBIG:
            return BackendError, f"a value is larger than SQLite takes in {path}"
        case _:
            return BackendError, f"{path} could not do what was asked"
