"""Families: which tasks depend on which, and what the end of one means for another."""

from __future__ import annotations

from collections.abc import Collection

from sitq.backends import rules
from sitq.record import Failure, Record, State


class Family:
    """The edges of the tasks that have not ended.

    Attributes:
        children: By parent, the tasks with an edge to it that have not ended, in order of sequence.
        waits: How many parents of each blocked task have not ended. A parent ends only once.
        armed: The blocked tasks that one of their parents armed.
        offspring: By parent, the tasks with an edge to it, ended ones among them, in order of sequence.
    """

    def __init__(self) -> None:
        self.children: dict[str, dict[str, None]] = {}
        self.waits: dict[str, int] = {}
        self.armed: set[str] = set()
        self.offspring: dict[str, dict[str, None]] = {}

    def join(self, child: Record) -> None:
        """Note a new task's edges; all its parents count as open."""
        edges = child.edges
        self.waits[child.id] = len(edges) if len(edges) <= 1 else len({edge.parent for edge in edges})
        for edge in child.edges:
            for known in (self.children, self.offspring):
                siblings = known.get(edge.parent)
                if siblings is None:
                    known[edge.parent] = {child.id: None}
                else:
                    siblings[child.id] = None

    def let_go(self, child: Record) -> None:
        """Forget what a task waited for that is not blocked any more."""
        del self.waits[child.id]
        self.armed.discard(child.id)

    def note(self, child: Record, known: Collection[str], *, ended: bool) -> None:
        """Note the edges of a task that waits for none of its parents, or has ended."""
        for edge in child.edges:
            if edge.parent in known:
                self.offspring.setdefault(edge.parent, {})[child.id] = None
                if not ended:
                    self.children.setdefault(edge.parent, {})[child.id] = None

    def forget(self, record: Record) -> None:
        """Forget whose child a task was that is removed, and who its own are."""
        self.offspring.pop(record.id, None)
        for edge in record.edges:
            siblings = self.offspring.get(edge.parent)
            if siblings is not None:
                siblings.pop(record.id, None)
                if not siblings:
                    del self.offspring[edge.parent]

    def part(self, child: Record) -> list[str]:
        """Forget the edges of a task that has ended; answers with the parents that this left childless."""
        childless: list[str] = []
        for edge in child.edges:
            siblings = self.children.get(edge.parent)
            if siblings is None or child.id not in siblings:
                continue  # a second edge to the same parent, or the parent was deleted
            del siblings[child.id]
            if not siblings:
                del self.children[edge.parent]
                childless.append(edge.parent)
        return childless

    def lift(self, child: Record, parent: str, state: State, now: int) -> tuple[State, Failure | None]:
        """Let a parent's end take effect on a blocked child: the state that the child goes into, and why."""
        child.ends = rules.counted(child.ends, state)
        for edge in child.edges:
            if edge.parent != parent:
                continue
            effect = rules.effect_of(edge, state)
            if effect in {"c", "f"}:
                after = State.CANCELLED if effect == "c" else State.FAILED
                return after, rules.dependency_failure(parent, state, now)
            if effect == "a":
                self.armed.add(child.id)
        self.waits[child.id] -= 1
        if self.waits[child.id]:
            return State.BLOCKED, None
        if rules.needs_arming(child.edges) and child.id not in self.armed:
            return State.CANCELLED, rules.unarmed_failure(now)
        return State.QUEUED, None
