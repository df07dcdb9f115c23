"""What the query of a URL may say to the driver, judged before anything is connected."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Final

from sitq.exceptions import ValidationError

OWN: Final = ("namespace",)
"""What it says to sitq."""


def judge(query: Mapping[str, str], *, kind: str, scheme: str) -> None:
    """See that a server of this kind takes each option, and its value.

    Args:
        query: The options, without those of sitq.
        kind: "single", "cluster" or "sentinel".
        scheme: "redis", "rediss" or "unix".

    Raises:
        ValidationError: One is unknown, or has a value that it cannot have; no value is quoted.
    """
    known = dict(_ALL)
    if scheme != "unix":
        known |= _NETWORK
    if scheme == "rediss":
        known |= _TLS
    if kind == "cluster":
        known = {name: fits for name, fits in known.items() if name not in _NOT_IN_CLUSTERS}
    for name, value in query.items():
        if name not in known:
            raise ValidationError(_unknown(name, known, scheme))
        if not known[name][0](value):
            raise ValidationError(f"{name}=… in the URL of a Redis server has to be {known[name][1]}")


def is_database(value: str) -> bool:
    """Whether this numbers a database."""
    return value.isascii() and value.isdecimal() and len(value) < _LONGEST


_LONGEST: Final = 10
_Option = tuple[Callable[[str], bool], str]


def _seconds(value: str) -> bool:
    try:
        return 0 < float(value) < math.inf
    except ValueError:
        return False


def _count(value: str) -> bool:
    return is_database(value) and int(value) > 0


def _flag(value: str) -> bool:
    return value.lower() in {"true", "false", "yes", "no", "1", "0"}


def _one_of(*values: str) -> _Option:
    return lambda value: value in values, " or ".join(values)


_TEXT: Final[_Option] = (bool, "a text")
_SECONDS: Final[_Option] = (_seconds, "a number of seconds above 0")
_FLAG: Final[_Option] = (_flag, "true or false")

_ALL: Final[Mapping[str, _Option]] = {
    "db": (is_database, "the number of a database"),
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "protocol": _one_of("2", "3"),
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "health_check_interval": (is_database, "a whole number of seconds"),
    "max_connections": (_count, "a number above 0"),
}

_NETWORK: Final[Mapping[str, _Option]] = {"socket_keepalive": _FLAG}

_TLS: Final[Mapping[str, _Option]] = {
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_ca_data": _TEXT,
    "ssl_certfile": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_password": _TEXT,
    "ssl_ciphers": _TEXT,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _FLAG,
}

_NOT_IN_CLUSTERS: Final = {"db", "ssl_ca_path", "ssl_password"}
"""A cluster has no databases but one, and its client no such arguments (redis-py 8.1)."""


def _unknown(name: str, known: Mapping[str, _Option], scheme: str) -> str:
    if name in _TLS and scheme != "rediss":
        return f"{name}=… in the URL of a Redis server is for TLS: write rediss:// instead"
    names = sorted((*known, *OWN))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return f"{name!r} is no option of this URL of a Redis server; {hint}"
