"""Mending: stored columns that hold what sitq never writes, such as text where a number belongs.

They are read in batches, so that one of them would fail the reading of all. Whoever meets one has it looked
for here, once, in a write transaction: what does not fit is replaced so that the row can be read, and a task
that has not ended is put aside as `dead`, with the column in its reason. Its body stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from sitq.backends import rules
from sitq.backends.base import own_end_topic
from sitq.backends.sqlite.errors import is_misread
from sitq.backends.tables.ending import end, fail, spread
from sitq.backends.tables.lanes import LaneKey, encode
from sitq.backends.tables.row import ENDED
from sitq.record import KEEP_FAILED, State

if TYPE_CHECKING:
    from sitq.backends.sqlite.connection import Connection
    from sitq.backends.tables.work import Work

_NOWHERE: Final = LaneKey("default", "", "", None, ())
"""The lane of a task whose own cannot be known."""

_TEXTS: Final = ("id", "token", "owner", "stop", "reply", "wants", "ends")


def is_damage(error: BaseException | None) -> bool:
    """Whether an error may come from a column that does not hold what it should."""
    if is_misread(error):
        return True
    return error is not None and is_damage(error.__cause__)


def mend(work: Work) -> int:
    """Mend all tasks with columns that do not fit, and put them aside; how many there were.

    It looks at each row, which takes a second or two for a million of them.
    """
    db = cast("Connection", work.db)
    why: dict[int, str] = dict(db.run("misfits").fetchall()) or _mend_texts(db)
    dropped = db.run("drop_bad_uniques").rowcount + db.run("mend_cells").rowcount
    if not why:
        return dropped
    tasks = [one for one in why if type(one) is int]  # a damaged edge may name no task
    found = encode(tasks).decode()
    work.line_up([_NOWHERE])
    nowhere = work.lane_of(_NOWHERE)
    lost = len(db.run("without_lane", found).fetchall())
    db.run("mend", found, work.now, nowhere.queue, nowhere.id, work.now + KEEP_FAILED)
    db.run("count_lane", nowhere.id, lost)
    db.run("drop_bad_edges")
    db.run("drop_bad_steps")
    db.run("drop_tally")
    db.run("count_anew")
    for row in work.load(tasks):
        failure = rules.corrupt_failure(why[row.sequence], work.now)
        if row.stage < ENDED:
            end(work, row, State.DEAD, failure)
            work.topics.add(own_end_topic(row.id))
        else:
            fail(work, row, failure)
    spread(work)
    return len(why)


def _mend_texts(db: Connection) -> dict[int, str]:
    """Replace texts that are not UTF-8: in which tasks."""
    bad: dict[int, str] = {}
    db.raw.text_factory = bytes
    try:
        for sequence, *texts in db.run("texts").fetchall():
            wrong = [name for name, text in zip(_TEXTS, texts, strict=True) if not _is_text(text)]
            if wrong:
                good = [text.decode() if text is not None and _is_text(text) else None for text in texts]
                bad[sequence] = ", ".join(f"{name} holds what is not UTF-8" for name in wrong)
                db.run("mend_texts", sequence, good[0] or f"damaged-{sequence}", *good[1:])
        for look, drop in (("step_names", "drop_step"), ("edge_effects", "drop_edge")):
            for sequence, text in db.run(look).fetchall():
                if not _is_text(text):
                    bad[sequence] = f"{look.replace('_', ' ')} hold what is not UTF-8"
                    db.run(drop, sequence, text)
    finally:
        db.raw.text_factory = str
    return bad


def _is_text(value: bytes | None) -> bool:
    if value is None:
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
