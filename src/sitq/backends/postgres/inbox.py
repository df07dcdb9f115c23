"""The inbox: what was enqueued inside of users' transactions, until it is put where it belongs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from sitq.backends.base import Answer, Refused, queue_topic
from sitq.backends.tables.admission import Group, pack_record, put
from sitq.backends.tables.ending import end, spread
from sitq.backends.tables.work import Work
from sitq.record import Failure, Record, State

logger = logging.getLogger("sitq.backends.postgres")

MOST: Final = 1000
"""How many groups are put where they belong at once."""

_bodies = msgspec.msgpack.Decoder(list[bytes]).decode
_record = msgspec.msgpack.Decoder(Record).decode


def packed(group: Sequence[Record]) -> bytes:
    """A group as the inbox keeps it."""
    return msgspec.msgpack.encode([pack_record(record) for record in group])


def note_of(groups: Iterable[Sequence[Record]]) -> str:
    """What is told to other processes at the commit: nobody in particular, then the topics."""
    topics = {queue_topic(record.queue) for group in groups for record in group}
    return msgspec.json.encode(["", *sorted(topics)]).decode()


def empty(work: Work, most: int) -> int:
    """Put what was committed where it belongs; answers how many groups it was.

    A unique key is decided here, as its own rule says, but nobody is left to be refused: the second task
    goes. A task whose parents are not there fails.
    """
    rows: list[Any] = sorted(work.db.run("empty_inbox", MOST).fetchall())
    groups = [group for _, tasks in rows if (group := _group(tasks))]
    if groups:
        for group, answers in zip(groups, put(work, groups, most), strict=True):
            for (record, _), answer in zip(group, answers, strict=True):
                if isinstance(answer, Refused):
                    _refuse(work, record, answer, answers, most)
        work.flush()
    return len(rows)


def _group(tasks: bytes) -> Group:
    try:
        return [(_record(body), body) for body in _bodies(tasks)]
    except msgspec.MsgspecError as error:
        logger.warning("tasks in the inbox cannot be read, and are left out: %s", error)
        return []


def _refuse(work: Work, record: Record, answer: Refused, answers: Sequence[Answer], most: int) -> None:
    why = next(one for one in answers if isinstance(one, Refused) and one.why != "group")
    if answer.why == "unique":
        logger.warning("task %s is left out: task %s holds its unique key", record.id, answer.detail)
        return
    changed = copy.copy(record)
    changed.edges, changed.unique, changed.room, changed.milestone = (), None, None, False
    put(work, [[(changed, pack_record(changed))]], most)
    row = work.ids[record.id]
    if row is not None:
        message = f"it was refused when its transaction was committed: {why.why} {why.detail}"
        end(work, row, State.FAILED, Failure(kind="dependency", message=message, at=work.now))
        spread(work)
