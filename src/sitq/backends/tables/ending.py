"""Ends of tasks, ways back into the queue, and what both mean for those that depend on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from sitq.backends import rules
from sitq.backends.base import own_end_topic
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import BLOCKED, QUEUED, READY, STAGES, Row, ends_of, history_of
from sitq.backends.tables.unique import take_back
from sitq.backends.tables.work import Work
from sitq.record import DAY, ERRORS_KEPT, KEEP_FAILED, TERMINAL, Edge, Failure, State

Children = dict[int, list[tuple[int, str]]]
"""Those that depend on a task, with the effects of its end."""

_edges = msgspec.json.Decoder(list[tuple[int, int, str]]).decode
_FAILED = {STAGES[State.FAILED], STAGES[State.DEAD]}


def end(work: Work, row: Row, state: State, *failures: Failure | None) -> None:
    """Let a task end, but for what that means to its dependants: see `spread`."""
    stage = STAGES[state]
    work.move(row, stage)
    release(row)
    row.finished = work.now
    row.keep_until = work.now + kept(row, stage)
    row.expire_at = None
    fail(work, row, *failures)
    work.ended.append(row)
    work.tell_end(row)


def kept(row: Row, stage: int) -> int:
    """How long the record stays."""
    if stage in _FAILED:
        return KEEP_FAILED if row.keep_failed is None else row.keep_failed
    return DAY if row.keep is None else row.keep


def release(row: Row) -> None:
    """Nobody runs it any more."""
    row.owner = row.lease_until = row.stop = None


def fail(work: Work, row: Row, *failures: Failure | None) -> None:
    """Add to a task's errors."""
    known = [one for one in failures if one is not None]
    if not known:
        return
    history = history_of(row)
    errors = history.errors
    for one in known:
        errors = rules.newest(errors, one, ERRORS_KEPT)
    history.errors = errors
    work.remember(row, history)


def queue_up(work: Work, row: Row, due: int) -> None:
    """Let a task wait for its start from `due` on."""
    row.due = due
    row.delay = None
    release(row)
    if row.attempt == 0 and row.ttl is not None:
        row.expires = due + row.ttl
    row.expire_at = overdue_at(row)
    work.move(row, READY if due <= work.now else QUEUED)
    work.tell_queue(row)


def overdue_at(row: Row) -> int | None:
    """From which instant on a queued task is expired instead of ready, or None."""
    last = row.deadline
    if row.attempt == 0 and row.expires is not None:
        last = row.expires if last is None else min(last, row.expires)
    return None if last is None else max(row.due, last + 1)


def requeue(work: Work, row: Row, due: int) -> None:
    """Let a running task wait again; it takes a `waiting` unique key back if nobody has it."""
    queue_up(work, row, due)
    take_back(work, row)


# -- dependants --------------------------------------------------------------------------------------------


def spread(work: Work) -> None:
    """Let the ends since the last call take effect on the tasks that depend on them, and so on."""
    if not work.ended:
        return
    ended, work.ended = work.ended, []
    parents = [row.sequence for row in ended]
    over = [row.sequence for row in ended if row.parents is not None]
    if work.db.one("edges_of_parents", encode(parents).decode()) != "[]":
        children = _children(work, ended)
        for first in ended:
            over += _spread_below(work, first, children)
    if over:
        work.db.run("edges_over", encode(over).decode())


def _spread_below(work: Work, first: Row, children: Children) -> list[int]:
    """Let one end take effect, and the ends that come of it; answers which tasks those are of."""
    line, sequences = deque([first]), list[int]()
    while line:
        parent = line.popleft()
        if parent.sequence not in children:
            children.update(_children(work, [parent]))
        for one, effects in children[parent.sequence]:
            child = work.rows.get(one)
            if child is not None and child.stage == BLOCKED:
                lift(work, child, parent.id, parent.state, effects)
        below, work.ended = work.ended, []
        sequences += [row.sequence for row in below]
        line += below
    return sequences


def lift(work: Work, child: Row, parent: str, state: State, effects: str) -> None:
    """Let a parent's end take effect on a blocked child."""
    effect = effects[TERMINAL.index(state)]
    child.ends = encode(rules.counted(ends_of(child.ends), state)).decode()
    if effect in "cf":
        end(
            work,
            child,
            State.CANCELLED if effect == "c" else State.FAILED,
            rules.dependency_failure(parent, state, work.now),
        )
        work.topics.add(own_end_topic(child.id))
        return
    child.parents = (child.parents or 0) - 1
    if effect == "a":
        child.unarmed = None
    work.lift(child)
    if child.parents > 0:
        return
    if child.unarmed:
        end(work, child, State.CANCELLED, rules.unarmed_failure(work.now))
        work.topics.add(own_end_topic(child.id))
    elif child.milestone:
        end(work, child, State.COMPLETED)
        work.topics.add(own_end_topic(child.id))
    elif child.delay is None and child.ttl is None and child.deadline is None:
        child.due = max(child.due, work.now)
        work.let_go(child, READY if child.due <= work.now else QUEUED)
        work.tell_queue(child)
    else:
        queue_up(work, child, max(child.due, work.now) + (child.delay or 0))


def _children(work: Work, ended: Iterable[Row]) -> Children:
    """The open edges to the tasks, and to those that will end because of them, and so on."""
    found: Children = {}
    level = {row.sequence: TERMINAL.index(row.state) for row in ended}
    while level:
        for one in level:
            found[one] = []
        below: dict[int, int] = {}
        for parent, child, effects in _edges(work.db.one("edges_of_parents", encode(list(level)).decode())):
            found[parent].append((child, effects))
            effect = effects[level[parent]]
            if effect in "cf" and child not in found:
                below[child] = TERMINAL.index(State.CANCELLED if effect == "c" else State.FAILED)
        level = below
    work.load(child for pairs in found.values() for child, _ in pairs)
    return found


def letters_of(edges: Sequence[Edge]) -> dict[str, str]:
    """The effects of each parent's end on a task; several edges to the same one are as one."""
    if len(edges) == 1:
        return {edges[0].parent: edges[0].effects}
    found: dict[str, list[str]] = {}
    for edge in edges:
        found.setdefault(edge.parent, []).append(edge.effects)
    return {
        parent: effects[0] if len(effects) == 1 else _merged(effects) for parent, effects in found.items()
    }


def _merged(effects: Sequence[str]) -> str:
    return "".join(_strongest(letters) for letters in zip(*effects, strict=True))


def _strongest(letters: tuple[str, ...]) -> str:
    ending = [letter for letter in letters if letter in "cf"]
    return ending[0] if ending else max(letters, key="ga".index)
