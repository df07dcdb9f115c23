"""Agendas: tasks by rank, the least first, then by sequence.

An entry is one integer, since those are compared faster than tuples. Nothing is taken out of the middle: an
entry may be stale, and whoever meets it looks at the record that it stands for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

BITS: Final = 40
MASK: Final = (1 << BITS) - 1
SLACK: Final = 1000


class Agenda:
    """A heap of (rank, sequence), which thins itself out before stale entries outnumber the others."""

    __slots__ = ("_ceiling", "_is_current", "heap")

    def __init__(self, is_current: Callable[[int, int], bool]) -> None:
        """Start empty; `is_current(rank, sequence)` tells whether an entry still means something."""
        self.heap: list[int] = []
        self._is_current = is_current
        self._ceiling = SLACK

    def push(self, rank: int, sequence: int) -> None:
        """Add an entry; the same one twice does no harm."""
        heapq.heappush(self.heap, (rank << BITS) + sequence)
        if len(self.heap) > self._ceiling:
            self._thin()

    def pop_until(self, most: int) -> tuple[int, int] | None:
        """Remove and return the first entry if its rank is at most `most`."""
        if not self.heap or self.heap[0] >> BITS > most:
            return None
        entry = heapq.heappop(self.heap)
        return entry >> BITS, entry & MASK

    def first(self) -> int | None:
        """The rank of the first entry that means something."""
        while self.heap:
            entry = self.heap[0]
            if self._is_current(entry >> BITS, entry & MASK):
                return entry >> BITS
            heapq.heappop(self.heap)
        return None

    def clear(self) -> None:
        """Forget everything."""
        self.heap.clear()
        self._ceiling = SLACK

    def _thin(self) -> None:
        # A sorted list is a heap.
        self.heap[:] = sorted(
            entry for entry in set(self.heap) if self._is_current(entry >> BITS, entry & MASK)
        )
        self._ceiling = 2 * len(self.heap) + SLACK
