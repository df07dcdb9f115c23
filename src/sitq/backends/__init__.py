"""Stores of tasks, and how a URL opens one.

A driver is imported only when its store is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from sitq import validation
from sitq.exceptions import ConfigurationError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sitq.backends.base import Backend

    Opener = Callable[[str], Backend]

GROUP: Final = "sitq.backends"
"""The entry point group of third-party stores: a URL scheme names a callable that takes the URL."""

_REDIS: Final = "sitq.backends.redis:from_url"

_OWN: Final = {
    "memory": "sitq.backends.memory:from_url",
    "postgres": "sitq.backends.postgres:from_url",
    "postgresql": "sitq.backends.postgres:from_url",
    "redis": _REDIS,
    "redis+cluster": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss": _REDIS,
    "rediss+cluster": _REDIS,
    "rediss+sentinel": _REDIS,
    "sqlite": "sitq.backends.sqlite:from_url",
    "unix": _REDIS,
    "valkey": _REDIS,
    "valkeys": _REDIS,
}


def open_backend(store: Backend | str) -> Backend:
    """The backend itself, or the one that a URL names; it is not connected yet.

    Raises:
        ValidationError: It is neither, or the URL is malformed.
        ConfigurationError: No store is known for the URL's scheme, or its driver is not installed.
    """
    if isinstance(store, str) and "://" in store:
        try:
            scheme = urlsplit(store).scheme
        except ValueError:  # its text may quote the URL, and that may hold a password
            raise ValidationError("the URL of the store is malformed; mind [ ] and the port") from None
        return _opener(scheme)(store)
    return validation.backend(store)  # type: ignore[return-value,unused-ignore]


def path_and_options(url: str) -> tuple[str, dict[str, str]]:
    """The path of a URL without its first slash, and the options in its query.

    `sqlite:////a.db?namespace=x` is the path `/a.db` and a namespace.

    Raises:
        ValidationError: It names a host, which a store in a file has not.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValidationError(f"a URL of {parts.scheme}:// names no user and no host, as its store is a file")
    if parts.netloc:
        hint = f"{parts.scheme}:///{parts.netloc}{parts.path}"
        raise ValidationError(
            f"{url!r} names a host; a relative path is written {hint!r} and an absolute one with four slashes"
        )
    return unquote(parts.path.removeprefix("/")), dict(parse_qsl(parts.query))


def _opener(scheme: str) -> Opener:
    if scheme in _OWN:
        module, _, name = _OWN[scheme].partition(":")
        return cast("Opener", getattr(importlib.import_module(module), name))
    # Imported here, since it takes longer than all the rest of a start.
    from importlib.metadata import entry_points  # noqa: PLC0415

    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if scheme in others:
        try:
            return cast("Opener", others[scheme].load())
        except (ImportError, AttributeError) as error:
            message = f"the store for {scheme}:// cannot be loaded: {error}"
            raise ConfigurationError(message, operation="open") from error
    known = sorted({*_OWN, *others})
    near = difflib.get_close_matches(scheme, known, n=1)
    hint = f"did you mean {near[0]}://?" if near else f"there are {', '.join(f'{each}://' for each in known)}"
    raise ConfigurationError(f"no store is known for {scheme}://; {hint}", operation="open")
