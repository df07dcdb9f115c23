"""The rules of the contract as pure functions, for every store that is written in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from sitq.backends.base import Answer, Duplicate, Filter, Refused
from sitq.move import Change, Release, Retry, Settle
from sitq.record import TERMINAL, WAITING, Edge, Failure, Limit, Record, State, last_start

_limit = msgspec.json.Decoder(Limit).decode

_FIRST = tuple(tuple(int(one is state) for one in TERMINAL) for state in TERMINAL)
"""`Record.ends` after the first end."""

TURN = 1_000_000
"""How far a start moves the turn of a tenant of weight 1."""


def stride(weight: float) -> int:
    """How far a start moves the turn of a tenant of this weight."""
    return max(1, round(TURN / weight))


def interval(limit: Limit) -> int:
    """The microseconds between two starts at a rate; 0 if there is none."""
    return limit.per // limit.rate if limit.rate else 0


def first_start(limit: Limit, arrival: int) -> int:
    """From which instant on a limit with a rate above 0 admits the next start.

    The generic cell rate algorithm (ITU-T I.371): `arrival` is its theoretical arrival time.
    """
    return arrival - (limit.burst - 1) * interval(limit)


def next_arrival(limit: Limit, arrival: int, now: int) -> int:
    """The theoretical arrival time after a start at `now`."""
    return max(arrival, now) + interval(limit)


def room(limit: Limit, arrival: int, running: int, now: int, most: int) -> int:
    """How many tasks a limit lets start now, one after another; at most `most`."""
    most = most if limit.slots is None else max(0, min(most, limit.slots - running))
    if limit.rate is None or not most:
        return most
    starts = 0
    while limit.rate and starts < most and first_start(limit, arrival) <= now:
        arrival = next_arrival(limit, arrival, now)
        starts += 1
    return starts


def limit_in(cell: bytes | None) -> Limit | None:
    """The limit that a cell holds for its queue, or None."""
    try:
        return None if cell is None else _limit(cell)
    except (msgspec.MsgspecError, ValueError):
        return None


def effect_of(edge: Edge, state: State) -> str:
    """The letter that the edge has for its parent's terminal state."""
    return edge.effects[TERMINAL.index(state)]


def counted(ends: Sequence[int], state: State) -> tuple[int, ...]:
    """`Record.ends` with one more parent that ended in this state."""
    at = TERMINAL.index(state)
    if not ends:
        return _FIRST[at]
    return (*ends[:at], ends[at] + 1, *ends[at + 1 :])


def needs_arming(edges: Iterable[Edge]) -> bool:
    """Whether the task runs only if one of its parents armed it."""
    for edge in edges:  # noqa: SIM110 - a generator would take three times as long
        if "a" in edge.effects:
            return True
    return False


def find_cycle(records: Sequence[Record]) -> str | None:
    """The id of a task that depends on itself through tasks of the same group, or None (Kahn 1962)."""
    if _is_sorted(records):
        return None
    inside = {record.id for record in records}
    open_parents: dict[str, set[str]] = {}
    children: dict[str, list[str]] = {}
    for record in records:
        parents = {edge.parent for edge in record.edges if edge.parent in inside}
        open_parents[record.id] = parents
        for parent in parents:
            children.setdefault(parent, []).append(record.id)
    free = [task for task, parents in open_parents.items() if not parents]
    while free:
        task = free.pop()
        del open_parents[task]
        for child in children.get(task, ()):
            open_parents[child].discard(task)
            if not open_parents[child]:
                free.append(child)
    if not open_parents:
        return None
    # What is left depends on a cycle or is on one; going up from anywhere ends on one.
    path: list[str] = []
    task = min(open_parents)
    while task not in path:
        path.append(task)
        task = min(open_parents[task])
    return min(path[path.index(task) :])


def _is_sorted(records: Sequence[Record]) -> bool:
    """Whether each task stands behind its parents, as most groups are written."""
    ahead = {record.id for record in records}
    for record in records:
        for edge in record.edges:
            if edge.parent in ahead:
                return False
        ahead.discard(record.id)
    return True


def refused_group(
    records: Sequence[Record], refusal: Refused, is_known: Callable[[str], bool]
) -> list[Answer]:
    """The answers to a group of which one record is refused."""
    answers: list[Answer] = []
    told = False
    for record in records:
        if is_known(record.id):
            answers.append(Duplicate(record.id))
        elif record.id == refusal.id and not told:
            answers.append(refusal)
            told = True
        else:
            answers.append(Refused(record.id, "group"))
    return answers


def due_at(record: Record, now: int) -> int:
    """When a task is due that queues now for the first time: not before its `due`, and `delay` later."""
    return max(record.due, now) + record.delay


def changed_due(move: Change, now: int) -> int | None:
    """When a changed task is due, or None if the change leaves that alone."""
    if move.due is None and move.delay is None:
        return None
    return max(move.due or 0, now) + (move.delay or 0)


def overdue_at(record: Record) -> int | None:
    """From when on a queued task is expired instead of ready, or None: past its last start, and due."""
    last = last_start(record)
    return None if last is None else max(record.due, last + 1)


def holds_key(record: Record, now: int) -> bool:
    """Whether a task whose id stands behind its unique key still holds that key."""
    if record.unique is None:
        return False
    match record.unique.scope:
        case "waiting":
            return record.state in WAITING
        case "active":
            return record.state not in TERMINAL
        case "window":
            return now < record.created + record.unique.window


def bring(new: Record, holder: Record) -> None:
    """Write the payload of a newcomer, and what is said of it, into the holder of its unique key."""
    holder.payload, holder.preview, holder.payload_of = new.payload, new.preview, new.id


def already_said(record: Record, move: Settle | Retry | Release) -> bool:
    """Whether the record shows that the very same word of the same attempt has taken effect before."""
    if move.token is None or record.token != move.token:
        return False
    after = move.state if isinstance(move, Settle) else State.QUEUED
    return record.state is after and not any(
        past.kind == "crashed" and past.attempt == record.attempt and past != move.failure
        for past in record.errors
    )


def dependency_failure(parent: str, state: State, now: int) -> Failure:
    """Why a child ended with its parent."""
    return Failure(kind="dependency", message=f"task {parent}, which it depends on, ended as {state}", at=now)


def unarmed_failure(now: int) -> Failure:
    """Why a child that needed arming ended."""
    return Failure(
        kind="dependency", message="no task that it depends on ended so that it was wanted", at=now
    )


def crash_failure(attempt: int, owner: str | None, now: int) -> Failure:
    """Why an attempt is over whose lease ran out."""
    message = f"the lease of attempt {attempt} ran out: its worker died, hung or lost the store"
    return Failure(kind="crashed", message=message, attempt=attempt, at=now, worker=owner or "")


def cancel_failure(reason: str, attempt: int, now: int) -> Failure:
    """Why a task was cancelled."""
    return Failure(kind="cancelled", message=reason or "cancelled", attempt=attempt, at=now)


def expiry_failure(last_start: int, now: int) -> Failure:
    """Why a task was not started any more."""
    late = (now - last_start) / 1_000_000
    return Failure(
        kind="expired", message=f"not started in time: its last start was {late:.3f} s ago", at=now
    )


def corrupt_failure(why: str, now: int) -> Failure:
    """Why a record that cannot be read was put aside."""
    return Failure(kind="unrunnable", message=f"its stored record is corrupt: {why}", at=now)


def newest(past: Sequence[Failure], one: Failure | None, most: int) -> tuple[Failure, ...]:
    """A record's errors with one more, bounded to the newest `most`."""
    return tuple(past) if one is None else (*past, one)[-most:]


def lane_key(record: Record) -> tuple[str, str, str | None, str | None, tuple[str, ...]]:
    """What tasks have in common that can only be started or passed over together: their lane."""
    tenant = record.fair.key if record.fair else None
    keys = tuple([limit.key for limit in record.limits]) if record.limits else ()
    return record.queue, record.name, record.python, tenant, keys


def count_states(tally: Mapping[State, int], states: Iterable[State]) -> int:
    """How many tasks of a queue's tally are in one of the states."""
    return sum(tally.get(state, 0) for state in states)


def fits(record: Record, where: Filter) -> bool:
    """Whether a scan is about the record."""
    return (
        (where.states is None or record.state in where.states)
        and (where.queue is None or record.queue == where.queue)
        and (where.name is None or record.name == where.name)
        and (where.owner is None or record.owner == where.owner)
        and (where.batch is None or record.batch == where.batch)
        and (where.parent is None or any(edge.parent == where.parent for edge in record.edges))
        and (where.created_before is None or record.created < where.created_before)
        and (where.finished_before is None or _is_before(record.finished, where.finished_before))
        and (where.text is None or _contains(record, where.text))
    )


def _is_before(instant: int | None, end: int) -> bool:
    return instant is not None and instant < end


def _contains(record: Record, text: str) -> bool:
    # Bytes know the lower case of ASCII only, which is what SQL's LIKE can do too.
    needle = _folded(text)
    return any(needle in _folded(field) for field in (record.id, record.name, record.preview))


def _folded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").lower()
