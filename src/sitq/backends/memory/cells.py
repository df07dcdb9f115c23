"""Cells: small named values that are compared and set, and vanish by themselves."""

from __future__ import annotations

import bisect

from sitq.backends.base import LIMIT_QUEUE, Cell
from sitq.record import NEVER

PAUSE = "pause/"


class Cells:
    """The cells of a store, in order of their keys."""

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}
        self._keys: list[str] = []
        self._mortal: set[str] = set()
        self._pauses = 0
        self._limits = 0

    @property
    def may_limit(self) -> bool:
        """Whether any queue has a limit of its own."""
        return self._limits > 0

    @property
    def may_pause(self) -> bool:
        """Whether there is any pause at all."""
        return self._pauses > 0

    def swap(self, key: str, seen: bytes | None, value: bytes | None, until: int | None, now: int) -> bool:
        """Set the cell to `value` if it holds `seen`."""
        cell = self._live(key, now)
        if (cell.value if cell else None) != seen:
            return False
        if value is None:
            self._remove(key)
            return True
        if key not in self._cells:
            bisect.insort(self._keys, key)
            self._pauses += key.startswith(PAUSE)
            self._limits += key.startswith(LIMIT_QUEUE)
        self._cells[key] = Cell(key, value, until)
        if until is None:
            self._mortal.discard(key)
        else:
            self._mortal.add(key)
        return True

    def under(self, prefix: str, now: int) -> list[Cell]:
        """The cells whose key starts with `prefix`."""
        found: list[Cell] = []
        for at in range(bisect.bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[at]
            if not key.startswith(prefix):
                break
            cell = self._live(key, now)
            if cell:
                found.append(cell)
        return found

    def pause_end(self, key: str, now: int) -> int:
        """When the pause named by the cell ends: 0 if there is none, NEVER if only news can end it."""
        cell = self._live(key, now)
        if cell is None:
            return 0
        return NEVER if cell.until is None else cell.until

    def value(self, key: str, now: int) -> bytes | None:
        """What a cell holds, or None."""
        cell = self._live(key, now)
        return None if cell is None else cell.value

    def sweep(self, now: int) -> None:
        """Forget the cells that are past their time."""
        for key in [key for key in self._mortal if self._live(key, now) is None]:
            self._remove(key)

    def _live(self, key: str, now: int) -> Cell | None:
        cell = self._cells.get(key)
        return None if cell is None or (cell.until is not None and cell.until <= now) else cell

    def _remove(self, key: str) -> None:
        if self._cells.pop(key, None) is not None:
            del self._keys[bisect.bisect_left(self._keys, key)]
            self._mortal.discard(key)
            self._pauses -= key.startswith(PAUSE)
            self._limits -= key.startswith(LIMIT_QUEUE)
