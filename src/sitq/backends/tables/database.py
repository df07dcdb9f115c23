"""What the shared code asks of a store's connection: named statements, each on a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Answer(Protocol):
    """What came of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed, or found."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> Sequence[Any]:
        """The rows that are left."""
        ...


class Database(Protocol):
    """A connection inside a transaction. Several tasks go to a statement as one JSON array, or as rows."""

    def run(self, name: str, *values: Any) -> Answer:
        """Execute a named statement."""
        ...

    def one(self, name: str, *values: Any) -> Any:
        """The first column of the only row of a named statement, or None without a row."""
        ...

    def insert(self, name: str, rows: list[tuple[Any, ...]]) -> Sequence[Any]:
        """Insert rows in few statements; answers with what they return."""
        ...

    def for_rows(self, name: str, values: list[Any], width: int) -> Sequence[Any]:
        """Execute a statement on rows whose values follow one another, `width` of them in each."""
        ...

    def place(self, rows: list[tuple[Any, ...]], bodies: list[tuple[int, bytes]]) -> None:
        """Insert tasks: their columns without the body, and their sequences with the bodies, in one order."""
        ...

    def replace_body(self, sequence: int, body: bytes) -> None:
        """Write a task's body anew."""
        ...
