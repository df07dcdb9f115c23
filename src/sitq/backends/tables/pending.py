"""Changed rows that are still to be written, each kind of change by the narrowest statement that will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import STAGES, Blocked, Row
from sitq.record import DAY, State

_NOWHERE: Final = b"0" * 20


class Pending:
    """Changes of stored rows.

    Attributes:
        rows: Those of which any column may have changed, by sequence.
        lifted: Those of which a parent has ended, and that are still blocked or have been queued by it.
        settled: The results of those that ended as attempts usually do, which changes few columns.
        usual: The same of those that nobody has read: completed, and kept for a day.
        histories: What is known of past attempts, packed.
        results: Results of rows that are written whole.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.lifted: dict[int, Row | Blocked] = {}
        self.settled: dict[int, bytes | None] = {}
        self.usual: dict[int, bytes | None] = {}
        self.histories: dict[int, bytes] = {}
        self.results: dict[int, bytes] = {}

    def forget(self, sequence: int) -> None:
        """Write nothing of this row."""
        for changes in (self.rows, self.lifted, self.settled, self.histories, self.results):
            changes.pop(sequence, None)

    def write(self, db: Database, known: Mapping[int, Row], now: int) -> None:
        """Write all of it, given the rows that were read."""
        for one in self.settled.keys() & self.rows.keys():  # the wide statement writes it whole
            result = self.settled.pop(one)
            if result is not None:
                self.results[one] = result
        if self.settled or self.usual:
            self._write_settled(db, known, now)
        _write_rows(
            db, "store_lifted", [_lifted(row) for one, row in self.lifted.items() if one not in self.rows]
        )
        _write_rows(db, "store", [_stored(row) for row in self.rows.values()])
        self.rows, self.lifted = {}, {}
        _write_blobs(db, "store_history", self.histories)
        _write_blobs(db, "store_result", self.results)

    def _write_settled(self, db: Database, known: Mapping[int, Row], now: int) -> None:
        alike: dict[tuple[int, int | None], list[int]] = {}
        for one in self.settled:
            row = known[one]
            alike.setdefault((row.stage, row.keep_until), []).append(one)
        if self.usual:
            alike.setdefault((STAGES[State.COMPLETED], now + DAY), []).extend(self.usual)
            self.settled |= self.usual
        for (stage, keep_until), sequences in alike.items():
            places, blob = packed([self.settled[one] for one in sequences])
            db.run("settle", encode(sequences).decode(), places, blob, stage, keep_until, now)
        self.settled, self.usual = {}, {}


def packed(values: Sequence[bytes | None]) -> tuple[bytes, bytes]:
    """Values as one blob, and where each one stands in it: ten digits of its start and ten of its length.

    A start of 0 is no value. A statement finds these faster than numbers inside JSON, which it would parse
    again for each of them (5 of 10 µs of a settle with SQLite 3.40).
    """
    places: list[bytes] = []
    at = 2  # of an empty blob, substr makes NULL
    for value in values:
        if value is None:
            places.append(_NOWHERE)
        else:
            places.append(b"%010d%010d" % (at, len(value)))
            at += len(value)
    return b"".join(places), b"\0" + b"".join([value for value in values if value is not None])


def _write_rows(db: Database, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        db.for_rows(name, [value for row in rows for value in row], len(rows[0]))


def _write_blobs(db: Database, name: str, values: dict[int, bytes]) -> None:
    if values:
        rows: list[tuple[int, int, int]] = []
        blob = bytearray(b"\0")
        for one, value in values.items():
            rows.append((one, len(blob) + 1, len(value)))
            blob += value
        db.run(name, encode(rows).decode(), bytes(blob))
        values.clear()


def _lifted(row: Row | Blocked) -> tuple[Any, ...]:
    return row.sequence, row.stage, row.due, row.parents, row.unarmed, row.ends


def _stored(row: Row) -> tuple[Any, ...]:
    return (
        row.sequence, row.stage, row.priority, row.due, row.delay, row.expires, row.expire_at,
        row.attempt, row.failures, row.crashes, row.alone, row.token, row.owner, row.lease_until, row.stop,
        row.started, row.finished, row.keep_until, row.reply, row.wants, row.parents, row.unarmed,
        row.ends,
    )  # fmt: skip
