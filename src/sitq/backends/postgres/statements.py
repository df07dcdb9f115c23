"""The SQL of the store: named statements in files, with the namespace as the schema of their tables."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources
from typing import Final

_PACKAGE: Final = "sitq.backends.postgres"
_FILES: Final = ("read.sql", "claim.sql", "write.sql", "call.sql", "mend.sql")
_MARK: Final = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)
_SCHEMA: Final = re.compile(r"\bsitq\.(?=[a-z])")


def lock_of(namespace: str) -> int:
    """The number of the namespace's advisory lock, in the database that holds it."""
    digest = hashlib.sha256(f"sitq/{namespace}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def within(sql: str, namespace: str) -> str:
    """The SQL for a namespace."""
    return _SCHEMA.sub(f'"{namespace}".', sql).replace("sitq_lock", str(lock_of(namespace)))


@functools.cache
def statements(namespace: str) -> dict[str, bytes]:
    """The statements by name."""
    known: dict[str, bytes] = {}
    for file in _FILES:
        parts = _MARK.split(resources.files(_PACKAGE).joinpath(file).read_text("utf-8"))[1:]
        for name, sql in zip(parts[::2], parts[1::2], strict=True):
            known[name] = within(sql.strip(), namespace).encode()
    return known


@functools.cache
def migrations(namespace: str) -> tuple[str, ...]:
    """The steps from an empty database to the present schema, in order; step n leads to version n."""
    folder = resources.files(_PACKAGE).joinpath("migrations")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple(within(folder.joinpath(name).read_text("utf-8"), namespace) for name in names)
