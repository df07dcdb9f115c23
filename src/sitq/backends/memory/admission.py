"""Admission: how a group of new tasks is judged and stored, whole or not at all."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from sitq.backends import rules
from sitq.backends.base import Answer, Duplicate, Placed, Refused, Replaced
from sitq.backends.memory.store import Store, taken_in
from sitq.record import AFTER_ANY_END, WAITING, Edge, Record, State, Unique


def put_group(store: Store, records: Sequence[Record], now: int) -> list[Answer]:
    """Judge a group, then store it or nothing of it."""
    if len(records) == 1 and not (records[0].unique or records[0].edges or records[0].room is not None):
        return [_put_plain(store, records[0], now)]
    draft = Draft(store, now)
    answers: list[Answer] = []
    for record in records:
        answer = draft.judge(record)
        if isinstance(answer, Refused):
            return draft.refuse(records, answer)
        answers.append(answer)
    refusal = draft.judge_parents()
    if refusal:
        return draft.refuse(records, refusal)
    draft.commit()
    return answers


def _put_plain(store: Store, record: Record, now: int) -> Answer:
    """The short way for a task alone that nothing but its id and size can speak against."""
    if record.id in store.records:
        return Duplicate(record.id)
    if len(record.payload) > store.max_payload:
        return Refused(record.id, "payload", str(len(record.payload)))
    store.place(taken_in(record, now), now)
    return Placed(record.id)


class Draft:
    """What a group would change: the store stays as it is until all of it has been judged."""

    def __init__(self, store: Store, now: int) -> None:
        self.store = store
        self.now = now
        self.fresh: dict[str, Record] = {}
        self.replaced: dict[str, Record] = {}
        self.keys: dict[str, str] = {}

    def judge(self, record: Record) -> Answer:
        """What becomes of a record, its parents left aside."""
        if record.id in self.store.records or record.id in self.fresh:
            return Duplicate(record.id)
        if len(record.payload) > self.store.max_payload:
            return Refused(record.id, "payload", str(len(record.payload)))
        new = taken_in(record, self.now)
        if new.unique:
            holder = self._key_holder(new.unique.key)
            clash = self._clash(new, new.unique, holder) if holder else None
            if clash:
                return clash
        if new.room is not None and self._waiting_in(new.queue) >= new.room:
            return Refused(new.id, "full", new.queue)
        if new.unique:
            self.keys[new.unique.key] = new.id
        new.state = State.BLOCKED if new.edges else State.QUEUED
        self.fresh[new.id] = new
        return Placed(new.id)

    def judge_parents(self) -> Refused | None:
        """The refusal of the group for a parent that is not there or for a cycle."""
        inside = False
        for record in self.fresh.values():
            for edge in record.edges:
                if edge.parent in self.fresh:
                    inside = True
                elif edge.parent not in self.store.records:
                    return Refused(record.id, "parent", edge.parent)
        cycle = rules.find_cycle(list(self.fresh.values())) if inside else None
        return None if cycle is None else Refused(cycle, "cycle", cycle)

    def refuse(self, records: Sequence[Record], refusal: Refused) -> list[Answer]:
        """The answers to a group of which one record is refused."""
        return rules.refused_group(records, refusal, lambda id: id in self.store.records)

    def commit(self) -> None:
        """Store what was judged."""
        for draft in self.replaced.values():
            holder = self.store.records[draft.id]
            rules.bring(draft, holder)
            holder.payload_of, holder.unique, holder.delay = draft.payload_of, draft.unique, draft.delay
            if holder.due != draft.due:
                self.store.line_up_anew(holder, draft.due, self.now)
        for record in self.fresh.values():
            self.store.place(record, self.now)
        tied = [record for record in self.fresh.values() if record.edges]
        if tied:
            self.store.meet_ended_parents(tied, self.now)

    def _clash(self, new: Record, unique: Unique, holder: Record) -> Answer | None:
        """The answer to a newcomer whose unique key is held, or None if it is placed all the same."""
        match unique.clash:
            case "refuse":
                return Refused(new.id, "unique", holder.id)
            case "replace" if holder.state in WAITING:
                if (holder.name, holder.queue, holder.python) != (new.name, new.queue, new.python):
                    return Refused(new.id, "unique", holder.id)
                if "payload" in unique.fields and self._is_blocked(holder):
                    return Refused(new.id, "unique", holder.id)
                self._take_over(new, unique, holder)
                return Replaced(holder.id)
            case "again" if holder.state is State.RUNNING:
                new.edges = (*new.edges, Edge(holder.id, AFTER_ANY_END))
                return None
            case _:
                return Duplicate(holder.id)

    def _is_blocked(self, holder: Record) -> bool:
        """Whether it waits for others, for whose ends new arguments would have to wait, too."""
        return holder.state is State.BLOCKED or (holder.id in self.fresh and bool(holder.edges))

    def _take_over(self, new: Record, unique: Unique, holder: Record) -> None:
        if holder.id not in self.fresh:  # one of this group is a draft already
            holder = self.replaced.setdefault(holder.id, copy.copy(holder))
        if "payload" in unique.fields:
            rules.bring(new, holder)
        if "due" in unique.fields:
            waits = holder.state is State.BLOCKED or holder.id in self.fresh  # `due` is still to be computed
            holder.due = max(new.due, self.now) if waits else rules.due_at(new, self.now)
            holder.delay = new.delay if waits else 0
        holder.unique = unique

    def _key_holder(self, key: str) -> Record | None:
        id = self.keys.get(key) or self.store.keys.get(key, "")
        holder = self.fresh.get(id) or self.replaced.get(id) or self.store.records.get(id)
        return holder if holder is not None and rules.holds_key(holder, self.now) else None

    def _waiting_in(self, name: str) -> int:
        queue = self.store.queues.get(name)
        stored = queue.blocked + queue.queued if queue else 0
        return stored + sum(record.queue == name for record in self.fresh.values())
