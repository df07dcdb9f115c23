"""PostgreSQL's errors as errors of sitq."""

from __future__ import annotations

from typing import Final

import msgspec
import psycopg

from sitq.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionError,  # noqa: A004 - the API's own word
    ResourceExhaustionError,
    SitqError,
)

_AGAIN: Final = {"40001", "40P01", "55P03", "23505"}
"""Serialization failure, deadlock, a lock that was not to be had, the same claim or lane made by another."""

_READ_ONLY: Final = {"25006", "0A000"}
"""What a server says that takes no writes. The second one, not supported, is what a standby says of an
unlogged table, as that of the listeners is; otherwise it is said of a prepared statement whose tables were
changed, and then a new connection helps as well."""

_AWAY: Final = {*_READ_ONLY, "25P03", "57P01", "57P02", "57P03", "57P05", "53300"}
"""Read-only after a failover, stood still in a transaction, shut down, crashed, not yet ready, idle too long,
too many connections."""

_NO_TABLES: Final = {"3F000", "42P01", "42703", "42883"}
"""No schema, table, column or function of this name."""


def is_passing(error: BaseException) -> bool:
    """Whether the same may work at once, as others were in the way."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _AGAIN


def is_away(error: BaseException) -> bool:
    """Whether the connection is of no use any more, and a new one may be."""
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state in _AWAY or state[:2] in {"08", "57"}


def is_damage(error: BaseException) -> bool:
    """Whether what was stored may not be what sitq writes there."""
    if isinstance(error, SitqError):
        return False
    return isinstance(
        error, psycopg.DataError | msgspec.MsgspecError | LookupError | ValueError | ArithmeticError
    )


def translated(error: Exception, shown: str, operation: str) -> Exception:
    """The error to raise instead; one that says nothing of what is stored stays as it is."""
    if isinstance(error, SitqError):
        return error
    if not isinstance(error, psycopg.Error):
        if not is_damage(error):
            return error
        told = f"{shown} holds what sitq never writes: restore it, or use another namespace"
        result: Exception = BackendError(f"{told} ({error!r})", operation=operation)
        result.__cause__ = error
        return result
    kind, said = _verdict(error, shown)
    # What the driver says of a conninfo that it cannot read quotes it, and there may be a password in it.
    unread = error.sqlstate is None and isinstance(error, psycopg.ProgrammingError)
    told = "the driver refused it" if unread else "PostgreSQL: " + " ".join(str(error).split())
    result = kind(f"{said} ({told})", operation=operation)
    result.__cause__ = error
    return result


def _verdict(error: psycopg.Error, shown: str) -> tuple[type[SitqError], str]:
    state = error.sqlstate or ""
    if state in {"53100", "53200"}:
        what = "disk" if state == "53100" else "memory"
        return ResourceExhaustionError, f"{shown} has no {what} left: nothing was stored"
    if state in _NO_TABLES:
        return ConfigurationError, f"{shown} lacks what this sitq needs: run `sitq migrate` on it"
    if state == "42501":
        return ConfigurationError, f"{shown} does not let this role do it: see the permissions in its page"
    if state in _READ_ONLY:
        return ConnectionError, f"{shown} takes no writes: it is a standby, or was made read-only"
    if is_away(error) or state[:2] in {"28", "3D"}:
        return ConnectionError, f"{shown} cannot be reached"
    return BackendError, f"{shown} could not do what was asked"
