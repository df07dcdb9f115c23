"""Families: which tasks depend on which, and what the end of one means for another."""

from __future__ import annotations

from collections.abc import Iterable

from sitq.backends import rules
from sitq.record import Failure, Record, State


class Wait:
    """What a blocked task waits for, and whether it is wanted."""

    __slots__ = ("armed", "open")

    def __init__(self, parents: Iterable[str]) -> None:
        self.open = set(parents)
        self.armed = False


class Family:
    """The edges of the tasks that have not ended.

    Attributes:
        children: By parent, the tasks with an edge to it that have not ended, in order of sequence.
        waits: What each blocked task waits for.
    """

    def __init__(self) -> None:
        self.children: dict[str, dict[str, None]] = {}
        self.waits: dict[str, Wait] = {}

    def join(self, child: Record) -> None:
        """Note a new task's edges; all its parents count as open."""
        self.waits[child.id] = Wait(edge.parent for edge in child.edges)
        for edge in child.edges:
            self.children.setdefault(edge.parent, {})[child.id] = None

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
        wait = self.waits[child.id]
        if parent not in wait.open:
            return State.BLOCKED, None
        wait.open.discard(parent)
        for edge in child.edges:
            if edge.parent != parent:
                continue
            effect = rules.effect_of(edge, state)
            if effect in {"c", "f"}:
                after = State.CANCELLED if effect == "c" else State.FAILED
                return after, rules.dependency_failure(parent, state, now)
            wait.armed = wait.armed or effect == "a"
        if wait.open:
            return State.BLOCKED, None
        if rules.needs_arming(child.edges) and not wait.armed:
            return State.CANCELLED, rules.unarmed_failure(now)
        return State.QUEUED, None
