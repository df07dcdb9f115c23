"""Agendas: tasks by rank, the least first, then by sequence.

An entry is one integer, since those are compared faster than tuples. Nothing is taken out of the middle: an
entry may be stale, and whoever meets it looks at the record that it stands for.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Final

BITS: Final = 40
MASK: Final = (1 << BITS) - 1
SLACK: Final = 1000


class Agenda:
    """A priority queue of (rank, sequence), which thins itself out before stale entries outnumber the others.

    Most entries come in rising order and are kept as a plain run, which costs nothing to keep sorted; only
    those that do not are kept in a heap.
    """

    __slots__ = ("_ceiling", "_heap", "_is_current", "_run")

    def __init__(self, is_current: Callable[[int, int], bool]) -> None:
        """Start empty; `is_current(rank, sequence)` tells whether an entry still means something."""
        self._run: deque[int] = deque()
        self._heap: list[int] = []
        self._is_current = is_current
        self._ceiling = SLACK

    def push(self, rank: int, sequence: int) -> None:
        """Add an entry; the same one twice does no harm."""
        entry = (rank << BITS) + sequence
        run = self._run
        if not run or entry >= run[-1]:
            run.append(entry)
        else:
            heapq.heappush(self._heap, entry)
        if len(run) + len(self._heap) > self._ceiling:
            self._thin()

    def peek(self) -> int | None:
        """The first entry, stale or not."""
        run, heap = self._run, self._heap
        if heap and (not run or heap[0] < run[0]):
            return heap[0]
        return run[0] if run else None

    def pop(self) -> None:
        """Remove the first entry."""
        run, heap = self._run, self._heap
        if heap and (not run or heap[0] < run[0]):
            heapq.heappop(heap)
        else:
            run.popleft()

    def pop_until(self, most: int) -> tuple[int, int] | None:
        """Remove and return the first entry, as rank and sequence, if its rank is at most `most`."""
        entry = self.peek()
        if entry is None or entry >> BITS > most:
            return None
        self.pop()
        return entry >> BITS, entry & MASK

    def first(self) -> int | None:
        """The rank of the first entry that means something."""
        while (entry := self.peek()) is not None:
            if self._is_current(entry >> BITS, entry & MASK):
                return entry >> BITS
            self.pop()
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._run.clear()
        self._heap.clear()
        self._ceiling = SLACK

    def _thin(self) -> None:
        entries = {*self._run, *self._heap}
        self._run = deque(sorted(entry for entry in entries if self._is_current(entry >> BITS, entry & MASK)))
        self._heap.clear()
        self._ceiling = 2 * len(self._run) + SLACK
