"""The schema: numbered migrations, applied under the namespace's lock, all or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.errors import is_passing
from sitq.backends.postgres.statements import migrations
from sitq.exceptions import ConfigurationError

T = TypeVar("T")

TURNS: Final = 30
"""How often something is tried that others were in the way of."""

OLDEST = 14
"""The first PostgreSQL whose `extract` is exact to the microsecond, as instants must be."""


def check(db: Connection, namespace: str, shown: str) -> None:
    """See that the namespace's tables are those that this version knows.

    Raises:
        ConfigurationError: They are not, and the message says what to do.
    """
    _check_server(db, shown)
    version, known = _again(lambda: version_of(db, namespace)), len(migrations(namespace))
    if version == known:
        return
    if version > known:
        raise ConfigurationError(
            f"the tables of namespace {namespace!r} in {shown} are of version {version}, and this sitq knows "
            f"{known}: upgrade sitq, or use another namespace",
            operation="connect",
        )
    what = f"are of version {version}, and {known} is needed" if version else "are not there yet"
    raise ConfigurationError(
        f"the tables of namespace {namespace!r} in {shown} {what}: run `sitq migrate` with its URL, "
        "or open it with migrate=True",
        operation="connect",
    )


def migrate(db: Connection, namespace: str, shown: str) -> int:
    """Bring the namespace's tables to the present version; answers how many steps that took.

    Raises:
        ConfigurationError: They are of a newer version than this one knows.
    """
    _check_server(db, shown)
    return _again(lambda: _migrate(db, namespace, shown))


def _migrate(db: Connection, namespace: str, shown: str) -> int:
    known = migrations(namespace)
    if version_of(db, namespace) == len(known):
        return 0
    with db.patient(), db.alone(None):
        version = version_of(db, namespace)  # another process may have been here meanwhile
        if version > len(known):
            check(db, namespace, shown)
        for at, step in enumerate(known[version:], version):
            if not at:
                db.raw.execute(f'CREATE SCHEMA IF NOT EXISTS "{namespace}"'.encode())
            db.raw.execute(step.encode(), prepare=False)
        if version < len(known):
            db.run("set_version", len(known))
    return len(known) - version


def _again(action: Callable[[], T]) -> T:
    """Do something that the server may break off because others are in the way."""
    for turn in range(TURNS - 1):
        try:
            return action()
        except Exception as error:
            if not is_passing(error):
                raise
        time.sleep(0.001 * turn)
    return action()


def script(namespace: str) -> str:
    """The SQL that makes the namespace's tables where there are none, to be reviewed and run by hand."""
    known = migrations(namespace)
    steps = "\n".join(known)
    return (
        f'BEGIN;\nCREATE SCHEMA IF NOT EXISTS "{namespace}";\n{steps}\n'
        f"INSERT INTO \"{namespace}\".meta (key, value) VALUES ('schema', {len(known)});\nCOMMIT;\n"
    )


def version_of(db: Connection, namespace: str) -> int:
    """The version of the namespace's tables; 0 if there are none."""
    if not db.one("has_schema", f'"{namespace}".meta'):
        return 0
    return int(db.one("version") or 0)


def _check_server(db: Connection, shown: str) -> None:
    info = db.raw.info
    if info.server_version < OLDEST * 10_000:
        raise ConfigurationError(
            f"{shown} is PostgreSQL {info.server_version // 10_000}, too old for sitq: use {OLDEST} or newer",
            operation="connect",
        )
    encoding = info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"{shown} has the encoding {encoding}: make a database with ENCODING 'UTF8'", operation="connect"
        )
