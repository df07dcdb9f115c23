"""Moves as changes.lua reads them: plain values, and bytes that Lua cannot read by their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sitq.backends.redis.reading import LETTERS
from sitq.backends.redis.specs import pack, spec_of
from sitq.move import Cancel, Change, Delete, Lapse, Move, Note, Release, Restore, Retry, Settle
from sitq.record import Record

FIRST: Final = 4
"""The place of the first bytes among a script's arguments."""


class Words:
    """Moves on their way to the server."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []

    def packed(self, moves: Sequence[Move]) -> bytes:
        """The moves; their bytes are in `blobs`."""
        return pack([self._word(move) for move in moves])

    def place(self, value: bytes | None) -> int | None:
        """Where bytes stand among the arguments; None for none."""
        if value is None:
            return None
        self.blobs.append(value)
        return FIRST + len(self.blobs) - 1

    def _word(self, move: Move) -> tuple[Any, ...]:
        match move:
            case Settle():
                letter, failure = LETTERS[move.state], self._packed(move.failure)
                follow = self._follow(move.follow)
                return "settle", move.id, move.token, letter, self.place(move.result), failure, follow
            case Retry():
                failure, follow = self._packed(move.failure), self._follow(move.follow)
                return "retry", move.id, move.token, move.delay, move.freeze, failure, follow
            case Release():
                failure, follow = self._packed(move.failure), self._follow(move.follow)
                crashes, alone = move.crashes, move.alone or None
                delay, freeze = move.delay, move.freeze
                return "release", move.id, move.token, delay, freeze, failure, follow, crashes, alone
            case Note():
                name, value = move.step or (None, None)
                note, step = self._packed(move.progress), self.place(value)
                return "note", move.id, move.token, note, name, step, move.alone
            case Lapse():
                return "lapse", move.id, move.token
            case Cancel():
                return "cancel", move.id, move.reason, move.running
            case Change():
                return "change", move.id, move.due, move.delay, move.priority, move.queue
            case Restore():
                return "restore", move.id, spec_of(move.record), *self._restored(move.record)
            case Delete():
                states = None if move.states is None else "".join(LETTERS[state] for state in move.states)
                return "delete", move.id, move.end and LETTERS[move.end], states

    def _packed(self, value: Any) -> int | None:
        return None if value is None else self.place(pack(value))

    def _restored(self, record: Record) -> tuple[int | None, dict[str, Any]]:
        """Where the packed record is, and what its store said of it."""
        said = {
            "state": LETTERS[record.state],
            "created": record.created,
            "expires": record.expires,
            "attempt": record.attempt,
            "failures": record.failures or None,
            "crashes": record.crashes or None,
            "alone": record.alone or None,
            "token": record.token,
            "started": record.started,
            "finished": record.finished,
            "kept": record.keep_until,
            "ends": record.ends or None,
            "result": self.place(record.result),
            "steps": {name: self.place(value) for name, value in record.steps.items()} or None,
        }
        for count, place, values in (
            ("errors", "error_list", record.errors),
            ("notes", "note_list", record.progress),
        ):
            if values:
                said[count], said[place] = len(values), self.place(b"".join(map(pack, values)))
        alone = msgspec.structs.replace(record, result=None, steps={}, errors=(), progress=())
        return self.place(pack(alone)), {name: value for name, value in said.items() if value is not None}

    def _follow(self, records: Sequence[Record]) -> list[tuple[Any, ...]] | None:
        return [(spec_of(record), self.place(pack(record))) for record in records] if records else None
