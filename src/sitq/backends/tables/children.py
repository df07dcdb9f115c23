"""Blocked tasks that parents let go which complete in the usual way: read with the parents, written narrowly.

What else the end of a parent may mean for its children is `ending.py`'s: both come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from sitq.backends import rules
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import BLOCKED, QUEUED, READY, Blocked, ends_of
from sitq.backends.tables.work import Work
from sitq.record import TERMINAL, State

_COMPLETED = TERMINAL.index(State.COMPLETED)


class Tie(msgspec.Struct, array_like=True):
    """An open edge, with the child as it is stored."""

    parent: int
    effects: str
    child: Blocked


def are_usual(ties: Sequence[Tie]) -> bool:
    """Whether the completion of the parents only lifts the children, or lets them go as most are."""
    left: dict[int, int] = {}
    for tie in ties:
        child = tie.child
        if tie.effects[_COMPLETED] not in "ga" or child.stage != BLOCKED or child.parents is None:
            return False
        left[child.sequence] = more = left.get(child.sequence, child.parents) - 1
        if more <= 0 and not child.is_plain:
            return False
    return True


def lift_usual(work: Work, ties: Iterable[Tie]) -> None:
    """Let the completion of the parents take effect on the children."""
    children: dict[int, Blocked] = {}
    for tie in ties:
        child = children.setdefault(tie.child.sequence, tie.child)
        child.ends = _one_more(child.ends)
        child.parents = (child.parents or 0) - 1
        if tie.effects[_COMPLETED] == "a":
            child.unarmed = None
    queues: set[int] = set()
    for child in children.values():
        work.lift(child)
        if not child.parents:
            child.due = max(child.due, work.now)
            work.let_go(child, READY if child.due <= work.now else QUEUED)
            if child.queue not in queues:
                queues.add(child.queue)
                work.tell_queue(child)


@lru_cache(maxsize=1024)
def _one_more(ends: str | None) -> str:
    return encode(rules.counted(ends_of(ends), State.COMPLETED)).decode()
