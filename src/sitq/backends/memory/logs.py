"""Logs: numbered events by topic, the newest ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from sitq.backends.base import Event


class Logs:
    """The logs of a store."""

    def __init__(self) -> None:
        self._events: dict[str, deque[Event]] = {}
        self._last: dict[str, int] = {}

    def append(self, topic: str, events: Sequence[bytes], most: int, now: int) -> None:
        """Number and keep events, then forget all but the newest `most` of the topic."""
        kept = self._events.setdefault(topic, deque())
        number = self._last.get(topic, 0)
        for data in events:
            number += 1
            kept.append(Event(number, now, data))
        self._last[topic] = number
        while len(kept) > most:
            kept.popleft()

    def read(self, topic: str, after: int, n: int) -> list[Event]:
        """The first `n` events with numbers above `after`."""
        kept = self._events.get(topic)
        if not kept:
            return []
        start = max(0, after + 1 - kept[0].number)
        return list(islice(kept, start, start + n))
