"""redis-py's errors as errors of sitq. No text of them tells a password."""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions as driver

from sitq.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionError,  # noqa: A004 - the API's own word
    ResourceExhaustionError,
    SitqError,
)

DRIVER: Final = (driver.RedisError, driver.RedisClusterException, OSError)
"""What the driver raises: the errors of its cluster client have a base of their own."""

_IN_SCRIPT: Final = re.compile(r"Error running script.*?: -([A-Z]+) ", re.DOTALL)
"""How Redis before 7.0 tells of an error in the middle of a script."""

_AWAY: Final = frozenset(
    {"LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "MISCONF"}
)
"""What a server's errors begin with that goes away by itself, or by another master."""


def translated(error: Exception, where: str, operation: str) -> Exception:
    """The error to raise instead; one that is neither the driver's nor the network's stays as it is."""
    if isinstance(error, SitqError) or not isinstance(error, DRIVER):
        return error
    kind, said = _verdict(error, where)
    result = kind(said, operation=operation)
    result.__cause__ = error
    return result


def code_of(error: BaseException) -> str:
    """The word that a server's error begins with, also where redis-py took it off."""
    if isinstance(error, driver.OutOfMemoryError):
        return "OOM"
    if isinstance(error, driver.NoScriptError):
        return "NOSCRIPT"
    if isinstance(error, driver.ReadOnlyError):
        return "READONLY"
    if isinstance(error, driver.BusyLoadingError):
        return "LOADING"
    text = str(error)
    if within := _IN_SCRIPT.search(text):
        return within[1]
    return text.partition(" ")[0]


def once_more(error: BaseException) -> bool:
    """Whether the same words may be heard on another connection, or by another server.

    A connection that the server closed long ago fails at once; a demoted server is left; a cluster is asked
    anew where its slots are. Whoever was silent until the time was over may be so again.
    """
    if isinstance(error, driver.TimeoutError | TimeoutError):
        return False
    broken = driver.ConnectionError, driver.ClusterDownError, driver.RedisClusterException, OSError
    return isinstance(error, broken) or is_demoted(error)


def is_demoted(error: BaseException) -> bool:
    """Whether the server is a replica now, and another one the master."""
    return code_of(error) == "READONLY"


def is_full(error: BaseException) -> bool:
    """Whether the server has reached its `maxmemory`."""
    return code_of(error) == "OOM" or "command not allowed when used memory" in str(error)


def _verdict(error: Exception, where: str) -> tuple[type[SitqError], str]:
    text = str(error) or type(error).__name__
    if is_full(error):
        return (
            ResourceExhaustionError,
            f"{where} has reached its maxmemory, nothing was stored: let tasks end, purge some, or raise it",
        )
    if isinstance(error, driver.AuthenticationError):
        return ConnectionError, f"{where} does not accept the user or password: check the URL ({text})"
    if isinstance(error, driver.NoPermissionError):
        return (
            ConfigurationError,
            f"{where} does not let this user do what sitq needs: see the ACL recipe of the docs ({text})",
        )
    if isinstance(error, driver.RedisClusterException):
        if isinstance(error.__cause__, DRIVER) and str(error.__cause__):
            text = str(error.__cause__)
        return (
            ConnectionError,
            f"{where} cannot be used now: check that its nodes run, and are a cluster ({text})",
        )
    if isinstance(error, driver.TimeoutError | TimeoutError):
        return ConnectionError, f"{where} did not answer in time"
    if isinstance(error, driver.ConnectionError | OSError):
        return (
            ConnectionError,
            f"{where} cannot be reached: check that it runs and that the URL is right ({text})",
        )
    if code_of(error) in _AWAY:
        return ConnectionError, f"{where} cannot be used now ({text})"
    if "unknown command" in text.lower() or "Unknown Redis command" in text:
        return (
            ConfigurationError,
            f"{where} is too old or lacks a command: Redis 6.2 or Valkey is needed ({text})",
        )
    return BackendError, f"{where} could not do what was asked ({text})"
