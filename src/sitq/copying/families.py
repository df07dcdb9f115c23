"""Families: tasks that wait for each other move together, parents first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from sitq.record import Record


class Families:
    """Sets of tasks that depend on each other (a forest of disjoint sets, Galler and Fischer 1964)."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def tie(self, one: str, other: str) -> None:
        """Say that two tasks are of one family."""
        first, second = self._root(one), self._root(other)
        if first != second:
            self._above[second] = first

    def __contains__(self, id: str) -> bool:
        return id in self._above

    def all(self) -> list[list[str]]:
        """The families, each as the ids of its members."""
        found: dict[str, list[str]] = {}
        for id in list(self._above):
            found.setdefault(self._root(id), []).append(id)
        return list(found.values())

    def _root(self, id: str) -> str:
        path: list[str] = []
        above = self._above.setdefault(id, id)
        while above != id:
            path.append(id)
            id, above = above, self._above[above]
        for one in path:
            self._above[one] = id
        return id


def together(records: Iterable[Record], marked: Iterable[str]) -> set[str]:
    """The ids of all that are of a family with one of the marked ones."""
    families = Families()
    for record in records:
        families.tie(record.id, record.id)
        for edge in record.edges:
            families.tie(edge.parent, record.id)
    wanted = set(marked)
    return wanted.union(*(family for family in families.all() if not wanted.isdisjoint(family)))


def parents_first(records: Sequence[Record]) -> list[Record]:
    """The records by sequence, but none before one that it depends on (Kahn 1962)."""
    by_id = {record.id: record for record in records}
    waits = {record.id: {edge.parent for edge in record.edges} & by_id.keys() for record in records}
    children: dict[str, list[str]] = {}
    for id, parents in waits.items():
        for parent in parents:
            children.setdefault(parent, []).append(id)
    free = [(by_id[id].sequence, id) for id, parents in waits.items() if not parents]
    heapq.heapify(free)
    order: list[Record] = []
    while free:
        _, id = heapq.heappop(free)
        order.append(by_id[id])
        for child in children.get(id, ()):
            waits[child].discard(id)
            if not waits[child]:
                heapq.heappush(free, (by_id[child].sequence, child))
    return order
