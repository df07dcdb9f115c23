"""Answers to new tasks, as put.lua gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sitq.backends.base import Answer, Duplicate, Placed, Refused, Replaced
from sitq.record import Record

_decode: Final = msgspec.msgpack.Decoder().decode


def answers_of(groups: Sequence[Sequence[Record]], packed: bytes | int) -> list[list[Answer]]:
    """The answers to groups, in order."""
    answers: list[list[Answer]] = []
    told: list[Any] = _decode(packed) if isinstance(packed, bytes) else [1] * len(groups)
    for group, said in zip(groups, told, strict=True):
        if said == 1:
            answers.append([Placed(record.id) for record in group])
        else:
            answers.append([_answer(record, one) for record, one in zip(group, said, strict=True)])
    return answers


def _answer(record: Record, said: Any) -> Answer:
    if said == 1:
        return Placed(record.id)
    match said:
        case ["d", id]:
            return Duplicate(id)
        case ["r", id]:
            return Replaced(id)
        case [_, why, detail]:
            return Refused(record.id, why, detail)
        case _:
            raise AssertionError(f"put.lua answered {said!r}")
