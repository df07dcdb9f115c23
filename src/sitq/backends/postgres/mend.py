"""Mending: stored columns that hold what sitq never writes, such as a lane that is not there.

Rows are read and written in batches, so that one of them would fail the reading of all. Whoever meets one has
it looked for here, once, in a transaction of its own: what means nothing is replaced so that the row can be
used, and a task that has not ended is put aside as `dead`, with the column in its reason. Its body stays as
it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, cast

import msgspec

from sitq.backends import rules
from sitq.backends.base import own_end_topic
from sitq.backends.postgres.connection import Connection
from sitq.backends.tables.ending import end, fail, spread
from sitq.backends.tables.lanes import LaneKey, encode
from sitq.backends.tables.row import ENDED
from sitq.backends.tables.work import Work
from sitq.record import KEEP_FAILED, State

_NOWHERE: Final = LaneKey("default", "", "", None, ())
"""The lane of a task whose own cannot be known."""

_BOUND: Final = 1 << 60
"""What no number is above, nor below its negative: sums of a few of them still fit into a column."""

_keys = msgspec.json.Decoder(tuple[str, ...]).decode
_tasks = msgspec.json.Decoder(list[int]).decode


def mend(work: Work) -> int:
    """Mend all that does not fit, and put the tasks aside that have such columns; how many rows that were.

    It looks at each row, which takes a second or two for a million of them.
    """
    db = cast("Connection", work.db)
    mended = _mend_around(db)
    why: dict[int, str] = {child: "what it depends on is not to be read" for (child,) in _bad_edges(db)}
    why |= dict(db.run("misfits", _BOUND).fetchall())
    if not why and not mended:
        return 0
    db.lanes.forget()
    if why:
        found = encode(list(why)).decode()
        work.line_up([_NOWHERE])
        nowhere = work.lane_of(_NOWHERE)
        db.run("mend", found, work.now, nowhere.queue, nowhere.id, work.now + KEEP_FAILED, _BOUND)
        _put_aside(work, why)
    # What was counted of such tasks may have been anything.
    work.write_counts()
    db.run("drop_tally")
    db.run("count_anew")
    db.run("count_lanes", _BOUND)
    db.run("count_keys")
    db.run("mark_anew")
    return len(why) + mended


def _put_aside(work: Work, why: dict[int, str]) -> None:
    for row in work.load(why):
        failure = rules.corrupt_failure(why[row.sequence], work.now)
        if row.stage < ENDED:
            end(work, row, State.DEAD, failure)
            work.topics.add(own_end_topic(row.id))
        else:
            fail(work, row, failure)
    spread(work)
    work.flush()


def _mend_around(db: Connection) -> int:
    """Mend what stands around tasks: how many rows that were."""
    lanes = _unreadable(_keys, db.run("lane_texts").fetchall())
    claims = _unreadable(_tasks, db.run("claim_texts").fetchall())
    mended = 0
    for name, numbers in (("drop_lanes_by_id", lanes), ("drop_claims_by_number", claims)):
        if numbers:
            mended += db.run(name, numbers).rowcount
    for name in ("mend_turns", "mend_tenants", "mend_keys", "mend_cells"):
        mended += db.run(name, _BOUND).rowcount
    return mended


def _bad_edges(db: Connection) -> Iterable[tuple[int]]:
    return db.run("drop_bad_edges").fetchall()


def _unreadable(decode: Callable[[str], object], rows: Iterable[tuple[int, str]]) -> list[int]:
    """The numbers of those whose text cannot be read."""
    found: list[int] = []
    for number, text in rows:
        try:
            decode(text)
        except msgspec.MsgspecError:
            found.append(number)
    return found
