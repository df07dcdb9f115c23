"""Which ready tasks start next: the contract's rule on plain data.

Greedy, one after another: the least turn of the tenant, then the highest priority, then the lowest sequence,
of the tasks whose limits allow it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from sitq.backends.rules import TURN, first_start, next_arrival
from sitq.record import NEVER, Limit

Item = tuple[int, int, int | None]
"""Priority, sequence and stride (None: the usual one) of a ready task."""

Order = tuple[int, int, int]
"""Turn, negative priority, sequence: less starts earlier."""


@dataclass(slots=True)
class Meter:
    """What a limit key allows, and what of it is used."""

    limit: Limit
    arrival: int = 0
    frozen: int = 0
    running: int = 0
    paused: int = 0

    def opens(self) -> int:
        """From which instant on the next start is allowed; NEVER if only news can allow it."""
        limit, least = self.limit, max(self.frozen, self.paused)
        if limit.slots is not None and self.running >= limit.slots:
            return NEVER
        if limit.rate is None:
            return least
        return max(least, first_start(limit, self.arrival)) if limit.rate > 0 else NEVER

    def start(self, now: int) -> None:
        """Count a start."""
        self.running += 1
        if self.limit.rate:
            self.arrival = next_arrival(self.limit, self.arrival, now)


@dataclass(slots=True)
class Candidate:
    """An open lane with its first ready tasks. `more`: it may have others behind those."""

    lane: int
    tenant: str | None
    keys: tuple[str, ...]
    items: list[Item]
    more: bool = False
    used: int = 0


@dataclass(slots=True)
class Turns:
    """The turns of a queue: `of` has each tenant's, `served` is the one of the last start."""

    served: int = 0
    of: dict[str | None, int] = field(default_factory=dict[str | None, int])
    moved: set[str | None] = field(default_factory=set[str | None])

    def next(self, tenant: str | None) -> int:
        """The turn at which a task of the tenant would start."""
        return max(self.of.get(tenant, 0), self.served)

    def start(self, tenant: str | None, stride: int, times: int = 1) -> None:
        """Count a start, or several of the same tenant one after another."""
        if times:
            self.served = self.next(tenant) + (times - 1) * stride
            self.of[tenant] = self.served + stride
            self.moved.add(tenant)


@dataclass(slots=True)
class Choice:
    """What is to start, in order, and which lanes are to be held by which key.

    `short` says that the candidates did not tell enough to go on; `contested` has the keys of which another
    lane may come before the next candidate.
    """

    chosen: list[int] = field(default_factory=list[int])
    held: dict[int, str] = field(default_factory=dict[int, str])
    short: bool = False
    contested: set[str] = field(default_factory=set[str])


def choose(
    candidates: list[Candidate],
    meters: dict[str, Meter],
    turns: Turns,
    *,
    n: int,
    now: int,
    frontier: list[Order],
    contested: frozenset[str] = frozenset(),
) -> Choice:
    """Choose at most `n` tasks; counts them in `meters` and `turns`.

    Args:
        candidates: The lanes that may start something.
        meters: The state of every key that they name.
        turns: The turns of the queue.
        n: How many tasks.
        now: The store's clock.
        frontier: What is not among the candidates comes after these.
        contested: Keys that hold further lanes and have capacity. Of those lanes only as many are candidates
            as it is for, so when one of them falls back, another may come before what is next here.
    """
    choice = Choice()
    edge = min(frontier, default=None)
    heap = [(_order(one, turns), at) for at, one in enumerate(candidates) if one.items]
    heapq.heapify(heap)
    while heap and len(choice.chosen) < n:
        order, at = heap[0]
        one = candidates[at]
        current = _order(one, turns)
        if current != order:  # its tenant has had a turn meanwhile
            heapq.heapreplace(heap, (current, at))
            if _falls_back(one, contested, choice):
                break
            continue
        if edge is not None and order > edge:
            choice.short = True
            break
        key = _forbidding(one, meters, now)
        if key is not None:
            choice.held[one.lane] = key
            heapq.heappop(heap)
            if _falls_back(one, contested, choice):
                break
            continue
        _start(one, meters, turns, choice, now)
        if one.used < len(one.items):
            heapq.heapreplace(heap, (_order(one, turns), at))
        elif one.more:
            choice.short = True
            break
        else:
            heapq.heappop(heap)
    return choice


def _falls_back(one: Candidate, contested: frozenset[str], choice: Choice) -> bool:
    choice.contested = set(contested.intersection(one.keys))
    choice.short = bool(choice.contested)
    return choice.short


def _order(one: Candidate, turns: Turns) -> Order:
    priority, sequence, _ = one.items[one.used]
    return turns.next(one.tenant), -priority, sequence


def _forbidding(one: Candidate, meters: dict[str, Meter], now: int) -> str | None:
    for key in one.keys:
        if meters[key].opens() > now:
            return key
    return None


def _start(one: Candidate, meters: dict[str, Meter], turns: Turns, choice: Choice, now: int) -> None:
    _, sequence, stride = one.items[one.used]
    one.used += 1
    choice.chosen.append(sequence)
    turns.start(one.tenant, stride or TURN)
    for key in one.keys:
        meters[key].start(now)
