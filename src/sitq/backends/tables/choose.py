"""Which ready tasks start next: the contract's rule on plain data.

Greedy, one after another: the least turn of the tenant, then the highest priority, then the lowest sequence,
of the tasks whose limits allow it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from sitq.backends.rules import TURN, first_start, interval
from sitq.record import NEVER, Limit

Item = tuple[int, int, int | None]
"""Negative priority, sequence and stride (None: the usual one) of a ready task."""

Order = tuple[int, int, int]
"""Turn, negative priority, sequence: less starts earlier."""


class Meter(msgspec.Struct, array_like=True):
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

    def admits(self, n: int, now: int) -> bool:
        """Whether n tasks, at least one, may start one after another."""
        limit = self.limit
        if (limit.slots is not None and self.running + n > limit.slots) or self.opens() > now:
            return False
        return limit.rate is None or max(self.arrival, now) + (n - limit.burst) * interval(limit) <= now

    def start(self, now: int, times: int = 1) -> None:
        """Count a start, or several one after another."""
        self.running += times
        if self.limit.rate and times:
            self.arrival = max(self.arrival, now) + times * interval(self.limit)


@dataclass(slots=True)
class Candidate:
    """An open lane with its first ready tasks, in order. `more`: it may have others behind those."""

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


class Frontier(NamedTuple):
    """Behind what there may be lanes that are not among the candidates.

    Attributes:
        plain: Those without a tenant: negative priority and sequence; each start of one moves their turn.
        fair: Those with one: their order.
    """

    plain: tuple[int, int] | None = None
    fair: Order | None = None

    @property
    def is_there(self) -> bool:
        """Whether there may be such lanes."""
        return self.plain is not None or self.fair is not None

    def is_before(self, order: Order, turns: Turns) -> bool:
        """Whether one of them may come before a task."""
        if self.fair is not None and order > self.fair:
            return True
        return self.plain is not None and order > (turns.next(None), *self.plain)


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
    frontier: Frontier,
    contested: frozenset[str] = frozenset(),
    fair: bool = True,
) -> Choice:
    """Choose at most `n` tasks; counts them in `meters` and `turns`.

    Args:
        candidates: The lanes that may start something.
        meters: The state of every key that they name.
        turns: The turns of the queue.
        n: How many tasks.
        now: The store's clock.
        frontier: What is not among the candidates comes behind it.
        contested: Keys that hold further lanes and have capacity. Of those lanes only as many are candidates
            as it is for, so when one of them falls back, another may come before what is next here.
        fair: Whether the queue has tenants: without them no lane falls back, as all have the same turn.
    """
    if (
        not fair
        and not contested
        and all(meters[key].admits(n, now) for one in candidates for key in one.keys)
    ):
        return _merge(candidates, meters, turns, n=n, now=now, frontier=frontier)
    choice = Choice()
    line = Line(candidates, turns, contested if fair else frozenset())
    bounded = frontier.is_there
    while len(choice.chosen) < n and (one := line.next()) is not None:
        if line.has_fallen and any(_gives_way(one, contested, meters, now, choice) for one in line.fallen()):
            break
        if bounded and frontier.is_before(line.order, turns):
            choice.short = True
            break
        key = _forbidding(one, meters, now)
        if key is not None:
            choice.held[one.lane] = key
            if _gives_way(one, contested, meters, now, choice):
                break
            line.drop()
            continue
        _start(one, meters, turns, choice, now)
        if one.more and one.used == len(one.items):
            choice.short = True
            break
        line.started()
    return choice


def _merge(
    candidates: list[Candidate],
    meters: dict[str, Meter],
    turns: Turns,
    *,
    n: int,
    now: int,
    frontier: Frontier,
) -> Choice:
    """Choose where neither limits nor turns make a difference: by priority and sequence alone."""
    items = sorted([(item[0], item[1], at) for at, one in enumerate(candidates) for item in one.items])[:n]
    ends = [one.items[-1][:2] for one in candidates if one.more and one.items]
    if frontier.plain is not None:
        ends.append(frontier.plain)
    choice = Choice()
    last = min(ends, default=None)
    if last is not None and items and items[-1][:2] > last:
        choice.short = True
        items = items[: bisect_right(items, last, key=lambda item: item[:2])]
    for _, sequence, at in items:
        choice.chosen.append(sequence)
        candidates[at].used += 1
    for one in candidates:
        for key in one.keys if one.used else ():
            meters[key].start(now, one.used)
    turns.start(None, TURN, len(items))
    return choice


class Line:
    """The candidates in the order of their next tasks.

    A start moves its tenant's turn, and with it all lanes of the tenant. So each tenant has a line of its own
    by priority and sequence, which a start does not change, and only the tenants are in line by their turns.
    """

    def __init__(self, candidates: list[Candidate], turns: Turns, contested: frozenset[str]) -> None:
        self._candidates = candidates
        self._turns = turns
        self._contested = contested
        # Negative priority and sequence of a lane's next task, and where the lane is among the candidates.
        self._lanes: dict[str | None, list[tuple[int, int, int]]] = {}
        for at, one in enumerate(candidates):
            if one.items:
                priority, sequence, _ = one.items[0]
                self._lanes.setdefault(one.tenant, []).append((priority, sequence, at))
        for lanes in self._lanes.values():
            heapq.heapify(lanes)
        # The order of each tenant's next task. No two have the same sequence, so tenants are not compared.
        self._tenants = [self._entry(tenant, lanes) for tenant, lanes in self._lanes.items()]
        heapq.heapify(self._tenants)
        # Lanes of contested keys, with the order in which they stood when their tenant's turn last moved.
        self._watched: dict[str | None, list[tuple[Order, int]]] = {}
        self._fallen: list[tuple[Order, int]] = []
        if contested:
            for at, one in enumerate(candidates):
                if one.items and not contested.isdisjoint(one.keys):
                    self._watched.setdefault(one.tenant, []).append((self._order_of(one), at))

    @property
    def order(self) -> Order:
        """The order of the first candidate's next task."""
        return self._tenants[0][:3]

    @property
    def has_fallen(self) -> bool:
        """Whether lanes of contested keys have fallen back."""
        return bool(self._fallen)

    def next(self) -> Candidate | None:
        """The candidate whose next task is the first of all."""
        while self._tenants:
            turn, _, _, tenant = self._tenants[0]
            lanes = self._lanes[tenant]
            if turn == self._turns.next(tenant):
                return self._candidates[lanes[0][2]]
            heapq.heapreplace(self._tenants, self._entry(tenant, lanes))  # another one was served meanwhile
        return None

    def fallen(self) -> Iterator[Candidate]:
        """Lanes of contested keys that stood before the first candidate, and have fallen back since."""
        order = self.order
        while self._fallen and self._fallen[0][0] < order:
            yield self._candidates[heapq.heappop(self._fallen)[1]]

    def drop(self) -> None:
        """Take the first candidate out."""
        tenant = self._tenants[0][3]
        lanes = self._lanes[tenant]
        heapq.heappop(lanes)
        self._put_back(tenant, lanes)

    def started(self) -> None:
        """The first candidate's next task has started."""
        tenant = self._tenants[0][3]
        lanes = self._lanes[tenant]
        at = lanes[0][2]
        one = self._candidates[at]
        if one.used < len(one.items):
            priority, sequence, _ = one.items[one.used]
            heapq.heapreplace(lanes, (priority, sequence, at))
        else:
            heapq.heappop(lanes)
        if self._watched:
            self._watch_fall(tenant, at)
        self._put_back(tenant, lanes)

    def _watch_fall(self, tenant: str | None, at: int) -> None:
        """The tenant's turn has moved, by the start of one candidate."""
        one = self._candidates[at]
        watched = self._watched.pop(tenant, None)
        if watched:
            for order, other in watched:
                if other != at:
                    heapq.heappush(self._fallen, (order, other))
            if one.used < len(one.items) and not self._contested.isdisjoint(one.keys):
                self._watched[tenant] = [(self._order_of(one), at)]

    def _put_back(self, tenant: str | None, lanes: list[tuple[int, int, int]]) -> None:
        if lanes:
            heapq.heapreplace(self._tenants, self._entry(tenant, lanes))
        else:
            heapq.heappop(self._tenants)

    def _entry(
        self, tenant: str | None, lanes: list[tuple[int, int, int]]
    ) -> tuple[int, int, int, str | None]:
        priority, sequence, _ = lanes[0]
        return self._turns.next(tenant), priority, sequence, tenant

    def _order_of(self, one: Candidate) -> Order:
        priority, sequence, _ = one.items[one.used]
        return self._turns.next(one.tenant), priority, sequence


def _forbidding(one: Candidate, meters: dict[str, Meter], now: int) -> str | None:
    for key in one.keys:
        if meters[key].opens() > now:
            return key
    return None


def _gives_way(
    one: Candidate, contested: frozenset[str], meters: dict[str, Meter], now: int, choice: Choice
) -> bool:
    """Whether a lane that another one of the same key may stand in for now is out of its place."""
    choice.contested = {key for key in contested.intersection(one.keys) if meters[key].opens() <= now}
    choice.short = bool(choice.contested)
    return choice.short


def _start(one: Candidate, meters: dict[str, Meter], turns: Turns, choice: Choice, now: int) -> None:
    _, sequence, stride = one.items[one.used]
    one.used += 1
    choice.chosen.append(sequence)
    turns.start(one.tenant, stride or TURN)
    for key in one.keys:
        meters[key].start(now)
