"""The schema: numbered migrations, applied on opening under the write lock, all or none."""

from __future__ import annotations

from sitq.backends.sqlite.connection import Connection, patiently
from sitq.backends.sqlite.statements import migrations
from sitq.exceptions import ConfigurationError

BALLAST = 512 << 10
"""Bytes kept in reserve for settling on a full disk."""


def migrate(db: Connection, namespace: str, path: str) -> None:
    """Bring the namespace's tables to the present version.

    Raises:
        ConfigurationError: They are of a newer version than this one knows.
    """
    # Who closes the file as the last one locks it for a moment, also against readers.
    if patiently(lambda: version_of(db, namespace)) == len(migrations(namespace)):
        return
    with db.writing():
        version = version_of(db, namespace)  # another process may have been here meanwhile
        known = migrations(namespace)
        if version > len(known):
            raise ConfigurationError(
                f"the tables of namespace {namespace!r} in {path} are of version {version}, and this sitq "
                f"knows {len(known)}: upgrade sitq, or use another file or namespace",
                operation="connect",
            )
        for script in known[version:]:
            for statement in _statements(script):
                db.raw.execute(statement)
        db.run("set_version", len(known))
        db.run("load_ballast", BALLAST)


def version_of(db: Connection, namespace: str) -> int:
    """The version of the namespace's tables; 0 if there are none."""
    if db.run("has_table", f"{namespace}_meta").fetchone() is None:
        return 0
    found = db.one("get_version")
    if type(found) is not int or found < 1:
        raise ConfigurationError(
            f"the tables of namespace {namespace!r} say that they are of version {found!r}, which is none: "
            "restore the file, or use another file or namespace",
            operation="connect",
        )
    return found


def _statements(script: str) -> list[str]:
    lines = (line for line in script.splitlines() if not line.startswith("--"))
    return [one for one in "\n".join(lines).split(";\n") if one.strip()]
