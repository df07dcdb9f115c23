"""Changes: how moves are carried out, each under its condition."""

from __future__ import annotations

from collections.abc import Sequence

from sitq.backends import rules
from sitq.backends.base import own_end_topic, task_topic, worker_topic
from sitq.backends.tables.admission import change_due, pack_record, prepare, put_group
from sitq.backends.tables.ending import end, fail, kept, release, requeue, spread
from sitq.backends.tables.restoring import restore, send
from sitq.backends.tables.row import BLOCKED, ENDED, QUEUED, READY, RUNNING, STAGES, Row, history_of
from sitq.backends.tables.upkeep import remove
from sitq.backends.tables.usual import Holding
from sitq.backends.tables.work import Work
from sitq.move import Cancel, Change, Delete, Lapse, Move, Note, Release, Restore, Retry, Settle
from sitq.record import PROGRESS_KEPT, Record, State

Word = Settle | Retry | Release | Note | Lapse | Cancel | Change | Delete
"""The moves of a task that is stored."""


def apply(work: Work, moves: Sequence[Move], most: int, holding: Holding) -> list[bool]:
    """Carry out moves in order; each answers whether it was kept."""
    usual = holding.settle(work, moves)
    if len(usual) == len(moves):
        return [True] * len(moves)
    work.load_ids(move.id for move in moves if move.id not in usual)
    work.lanes.load(work.db, {row.lane for row in work.rows.values()})
    follow = [one for move in moves if isinstance(move, Settle | Retry | Release) for one in move.follow]
    follow += [move.record for move in moves if isinstance(move, Restore)]
    if follow:
        prepare(work, follow)
    kept = [move.id in usual or _carry_out(work, move, most) for move in moves]
    spread(work)
    return kept


def _carry_out(work: Work, move: Move, most: int) -> bool:
    if isinstance(move, Restore):
        return restore(work, move.record, most)
    row = work.ids.get(move.id)
    if row is None:
        return False
    if row.stage == BLOCKED:
        spread(work)  # an end before this move may have let it go
    return _change_row(work, row, move, most)


def _change_row(work: Work, row: Row, move: Word, most: int) -> bool:
    match move:
        case Settle():
            return _settle(work, row, move, most)
        case Retry() | Release():
            return _hand_back(work, row, move, most)
        case Note():
            return _note(work, row, move)
        case Lapse():
            return _lapse(work, row, move)
        case Cancel():
            return _cancel(work, row, move)
        case Change():
            return _change(work, row, move)
        case Delete():
            return _delete(work, row, move)


def _runs_under(row: Row, token: str | None) -> bool:
    return row.stage == RUNNING and row.token == token


def _already_said(row: Row, move: Settle | Retry | Release) -> bool:
    """Whether the row shows that the very same word of the same attempt has taken effect before."""
    if move.token is None or row.token != move.token:
        return False
    said = row.stage == STAGES[move.state] if isinstance(move, Settle) else row.stage in {QUEUED, READY}
    return said and not any(
        past.kind == "crashed" and past.attempt == row.attempt and past != move.failure
        for past in history_of(row).errors
    )


def _settle(work: Work, row: Row, move: Settle, most: int) -> bool:
    if move.token is None:
        if row.stage >= RUNNING:
            return False
    elif not _runs_under(row, move.token):
        return _already_said(row, move)
    if row.stage == RUNNING and not work.is_touched(row):
        work.settle(row, STAGES[move.state], move.result)
        row.finished = work.now
        row.keep_until = work.now + kept(row, row.stage)
        release(row)
        fail(work, row, move.failure)
        work.ended.append(row)
        work.tell_end(row)
    else:
        end(work, row, move.state, move.failure)
        if move.result is not None:
            work.keep_result(row, move.result)
    _follow(work, move.follow, most)
    return True


def _hand_back(work: Work, row: Row, move: Retry | Release, most: int) -> bool:
    if not _runs_under(row, move.token):
        return _already_said(row, move)
    if isinstance(move, Retry):
        row.failures = (row.failures or 0) + 1
        row.crashes = row.alone = None
    else:
        row.alone = move.alone or None
        if move.crashes is not None:
            row.crashes = move.crashes or None
    fail(work, row, move.failure)
    if move.freeze is not None:
        work.db.run("freeze_key", move.freeze, work.now + move.delay)
    if row.stop is None:
        requeue(work, row, work.now + move.delay)
    else:
        end(work, row, State.CANCELLED, rules.cancel_failure(row.stop, row.attempt, work.now))
        work.topics.add(own_end_topic(row.id))
    _follow(work, move.follow, most)
    return True


def _follow(work: Work, records: Sequence[Record], most: int) -> None:
    if records:
        spread(work)
    for record in records:
        put_group(work, [(record, pack_record(record))], most)
    if records:
        work.flush_new()  # moves after this one are to find what depends on them


def _note(work: Work, row: Row, move: Note) -> bool:
    if not _runs_under(row, move.token):
        return False
    if move.progress is not None:
        history = history_of(row)
        history.progress = (*history.progress, move.progress)[-PROGRESS_KEPT:]
        work.remember(row, history)
        work.topics.add(task_topic(row.id))
    if move.step is not None:
        work.steps.append((row.sequence, *move.step))
    if move.alone is not None:
        row.alone = move.alone or None
        work.touch(row)
    return True


def _lapse(work: Work, row: Row, move: Lapse) -> bool:
    if not _runs_under(row, move.token):
        return False
    if row.lease_until is not None and work.now < row.lease_until:
        row.lease_until = work.now
        work.touch(row)
    work.tell_queue(row)
    return True


def _cancel(work: Work, row: Row, move: Cancel) -> bool:
    if row.stage < RUNNING:
        if row.milestone:
            return False
        end(work, row, State.CANCELLED, rules.cancel_failure(move.reason, row.attempt, work.now))
        return True
    if row.stage != RUNNING or not move.running:
        return False
    if row.stop is None:
        row.stop = move.reason or "cancelled"
        work.touch(row)
    if row.owner is not None:
        work.topics.add(worker_topic(row.owner))
    return True


def _change(work: Work, row: Row, move: Change) -> bool:
    if row.stage >= RUNNING:
        return False
    if move.priority is not None:
        work.reorder(row, move.priority)
    due = rules.changed_due(move, work.now)
    if due is not None:
        change_due(work, row, due)
    if move.queue is not None:
        send(work, row, move.queue)
    return True


def _delete(work: Work, row: Row, move: Delete) -> bool:
    if row.stage == RUNNING or (move.states is not None and row.state not in move.states):
        return False
    spread(work)
    work.flush_new()
    if move.end is None and work.db.one("has_children", row.sequence):
        return False
    ended = row.stage >= ENDED
    if not ended:
        work.tell_end(row)
    remove(work, [row])
    if move.end is not None:
        if not ended:
            _pass_on(work, row, move.end)
        work.db.run("delete_edges_of_parent", row.sequence)
    return True


def _pass_on(work: Work, row: Row, state: State) -> None:
    """Let a deletion count as an end for those that wait for the task."""
    row.stage = STAGES[state]
    row.parents = None
    work.ended.append(row)
    spread(work)
