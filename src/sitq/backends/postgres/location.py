"""Where a server is: what its URL says, what of it may be shown, and who else may be there."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from sitq.exceptions import ValidationError

NAMESPACE: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,40}")
"""Names of schemas that need no quotes."""

OPTIONS: Final = ("namespace", "migrate", "listen")
"""What the query of a URL may say beside what the driver knows."""


_MALFORMED: Final = (
    "the URL or conninfo of the PostgreSQL store is malformed, and not repeated as it may hold a password; "
    "in a URL write / as %2F, @ as %40, # as %23, ? as %3F, % as %25, a space as %20, also in a password"
)
"""Said without a cause: libpq's text quotes what it could not read."""

_SHOWN: Final = re.compile(r"[\w.$@ -]*")
"""Names that are shown; what looks otherwise may be another conninfo, with a password in it."""


def split(url: str) -> tuple[str, dict[str, Any]]:
    """The driver's part of a URL, and the store's options.

    Raises:
        ValidationError: It is malformed, or an option has a value that it cannot have.
    """
    parts = urlsplit(url)
    if parts.fragment or "@" in parts.path:  # it goes on where nothing special was expected
        raise ValidationError(_MALFORMED)
    options: dict[str, Any] = {}
    rest: list[str] = []  # left as it is: to libpq, unlike to browsers, a + is no space
    for part in parts.query.split("&") if parts.query else ():
        name, _, value = map(unquote, part.partition("="))
        if name == "namespace":
            options[name] = value
        elif name in OPTIONS:
            if value not in {"true", "false"}:
                raise ValidationError(f"{name}={value!r} in the URL of a store: it is true or false")
            options[name] = value == "true"
        else:
            _check_name(name)
            rest.append(part)
    return urlunsplit(parts._replace(query="&".join(rest))), options


def shown(conninfo: str) -> str:
    """The address without what is secret in it.

    Raises:
        ValidationError: The conninfo is malformed.
    """
    try:
        known = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise ValidationError(_MALFORMED) from None
    hosts = str(known.get("host") or known.get("hostaddr") or "").split(",")
    ports = str(known.get("port") or "").split(",")
    if any("@" in host.lstrip("@") for host in hosts) or any(port and not port.isdecimal() for port in ports):
        raise ValidationError(_MALFORMED)
    if len(ports) == 1:
        ports *= len(hosts)
    places = [
        ("" if host.startswith(("/", "@")) else host) + (port and f":{port}")
        for host, port in zip(hosts, ports, strict=False)
    ]
    user, database = (_name(known.get(one)) for one in ("user", "dbname"))
    return f"postgresql://{user and f'{user}@'}{','.join(places)}/{database}"


def is_local(connection: psycopg.Connection[Any]) -> bool:
    """Whether all servers that it may lead to are on this host: on Unix sockets or on the loopback."""
    info = connection.info
    known = info.get_parameters()
    hosts = (known.get("hostaddr") or known.get("host") or info.hostaddr or info.host).split(",")
    return all(_is_here(host) for host in hosts) and _is_here(info.hostaddr or info.host)


def _is_here(host: str) -> bool:
    if host.startswith(("/", "@")) or host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(given: object) -> str:
    name = str(given or "")
    return name if _SHOWN.fullmatch(name) else "…"


def _check_name(name: str) -> None:
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {*OPTIONS, "ssl"}
    if name not in known:  # it may be the rest of a password
        near = difflib.get_close_matches(name, known, n=1)
        raise ValidationError(
            "the URL of the PostgreSQL store has an option that neither libpq nor sitq knows: did you mean "
            f"{near[0]}=?"
            if near
            else _MALFORMED
        )
