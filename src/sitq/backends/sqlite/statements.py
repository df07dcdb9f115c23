"""The SQL of the store: named statements in files, with the namespace as the prefix of their tables."""

from __future__ import annotations

import functools
import re
import sqlite3
from importlib import resources
from typing import Final

_PACKAGE: Final = "sitq.backends.sqlite"
_FILES: Final = ("read.sql", "claim.sql", "write.sql", "mend.sql")
_MARK: Final = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)
_TABLE: Final = re.compile(r"\bsitq_(?=[a-z])")
_ROW: Final = re.compile(r"VALUES (\((?:\?, )*\?\))")
_ARROW: Final = re.compile(r"((?:\w+\.)?value) ->> (\d+)")

OLDEST: Final = (3, 35, 0)
"""The first SQLite with RETURNING and with the JSON functions built in."""

SIZES: Final = (960, 256, 64, 16, 4, 1)
"""How many rows one insert takes: few statements to keep prepared, and few steps for any number of rows.

34 columns of as many rows are not quite the 32,766 values that a statement may have.
"""


@functools.cache
def _templates() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in _FILES:
        text = resources.files(_PACKAGE).joinpath(file).read_text("utf-8")
        parts = _MARK.split(text)[1:]
        found.update(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
    if sqlite3.sqlite_version_info < (3, 38):
        found = {name: without_arrows(sql) for name, sql in found.items()}
    return found


def without_arrows(sql: str) -> str:
    """The SQL for a SQLite before 3.38, which does not know the operator `->>`."""
    return _ARROW.sub(r"json_extract(\1, '$[\2]')", sql)


def prefixed(sql: str, namespace: str) -> str:
    """The SQL with its tables in the namespace."""
    return _TABLE.sub(namespace + "_", sql)


@functools.cache
def statements(namespace: str) -> dict[str, str]:
    """The statements by name; one that takes rows of values is there as `name/256`, … `name/1` too."""
    known: dict[str, str] = {}
    for name, template in _templates().items():
        sql = known[name] = prefixed(template, namespace)
        if _ROW.search(sql):
            for size in SIZES:
                known[f"{name}/{size}"] = _repeated(sql, size)
    return known


def _repeated(sql: str, size: int) -> str:
    def rows(row: re.Match[str]) -> str:
        return "VALUES " + ", ".join([row[1]] * size)

    return _ROW.sub(rows, sql)


@functools.lru_cache(maxsize=256)
def narrowed(sql: str, columns: tuple[int, ...], size: int) -> str:
    """An insert of so many rows into some of its columns: to bind all takes the most of its time."""
    into, names = sql[: sql.index("(")], sql[sql.index("(") + 1 : sql.index(")")].split(",")
    row = "(" + ", ".join("?" * len(columns)) + ")"
    return f"{into}({', '.join(names[one].strip() for one in columns)}) VALUES {', '.join([row] * size)}"


@functools.cache
def migrations(namespace: str) -> tuple[str, ...]:
    """The steps from an empty file to the present schema, in order; step n leads to version n."""
    folder = resources.files(_PACKAGE).joinpath("migrations")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple(prefixed(folder.joinpath(name).read_text("utf-8"), namespace) for name in names)
