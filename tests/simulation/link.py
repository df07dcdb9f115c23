"""A node's connection to the store, and what can go wrong on it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger import Ledger
from virtual import pause_thread

from sitq.backends.base import Backend, Lease, LeaseChannel, Listener, Renewal
from sitq.backends.memory import MemoryBackend
from sitq.exceptions import BackendError
from sitq.exceptions import ConnectionError as StoreAwayError

MOVES = {"put", "apply", "take", "swap", "append", "tend"}
"""Calls that change the store."""

AGAIN = {"put", "apply", "take"}
"""Calls that a network may deliver twice: their words may be said again."""


@dataclass
class Weather:
    """How likely each fault is, for each call of the store."""

    slow: float = 0.0
    very_slow: float = 0.0
    request_lost: float = 0.0
    answer_lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    refused: float = 0.0
    hint_lost: float = 0.0
    hint_late: float = 0.0
    hint_for_nothing: float = 0.0
    renewal_lost: float = 0.0
    renewal_slow: float = 0.0

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        for name in vars(self):
            setattr(self, name, 0.0)


def drawn(dice: random.Random) -> Weather:
    """Weather of which a part of the faults is no part at all: so each seed looks elsewhere."""
    weather = Weather()
    for name in vars(weather):
        if dice.random() < 0.5:
            most = {"slow": 0.6, "very_slow": 0.03, "refused": 0.02, "late": 0.05}.get(name, 0.25)
            setattr(weather, name, dice.random() * most)
    return weather


@dataclass
class Sky:
    """The weather, and who is cut off from the store."""

    dice: random.Random
    weather: Weather = field(default_factory=Weather)
    cut: set[str] = field(default_factory=set)
    away: bool = False

    def has_cut(self, node: str) -> bool:
        return self.away or node in self.cut

    def falls(self, chance: float) -> bool:
        return chance > 0.0 and self.dice.random() < chance


class Link(Backend):
    """One node's way to the store that all share."""

    def __init__(self, node: str, store: MemoryBackend, sky: Sky, ledger: Ledger) -> None:
        super().__init__()
        self.node = node
        self.store = store
        self.sky = sky
        self.ledger = ledger
        self.traits = store.traits
        self.namespace = store.namespace
        self.closed_for_good = False
        self._late: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        await self._weathered("open", _nothing)

    async def shut(self) -> None:
        pass

    # -- what goes wrong -------------------------------------------------------------------------------------

    async def _weathered(self, operation: str, perform: Callable[[], Awaitable[Any]]) -> Any:
        sky, weather = self.sky, self.sky.weather
        if sky.falls(weather.slow):
            await asyncio.sleep(sky.dice.random() * 0.2)
        if sky.falls(weather.very_slow):
            self.ledger.excuse(self.node, f"{operation} takes long")
            try:
                await asyncio.sleep(sky.dice.random() * 20)
            finally:
                self.ledger.excuse(self.node, f"{operation} took long")
        await self._way(operation)
        if sky.falls(weather.request_lost):
            self._fail(operation, "the request was lost")
        if operation in MOVES and sky.falls(weather.refused):
            self.ledger.excuse(self.node, f"{operation} was refused")
            raise BackendError(f"{operation} is refused, for no reason", operation=operation)
        answer = await self._perform(operation, perform)
        if operation in AGAIN and sky.falls(weather.twice):
            self.ledger.twice = True
            await self._perform(operation, perform)
        if operation in AGAIN and sky.falls(weather.late):
            self.ledger.twice = True
            self.ledger.excuse(self.node, f"{operation} came again later")
            late = asyncio.create_task(self._again(operation, perform))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
        if sky.falls(weather.answer_lost):
            self._fail(operation, "the answer was lost")
        if sky.falls(weather.slow):
            await asyncio.sleep(sky.dice.random() * 0.2)
        await self._way(operation)
        return answer

    async def _way(self, operation: str) -> None:
        """Fail at once or after a while if there is no way to the store."""
        if self.closed_for_good:
            raise StoreAwayError("this node is gone", operation=operation)
        if self.sky.has_cut(self.node):
            self.ledger.excuse(self.node, f"{operation}: cut off")
            if self.sky.falls(0.5):
                await asyncio.sleep(self.sky.dice.random() * 4)
            self._fail(operation, "cut off")

    async def _perform(self, operation: str, perform: Callable[[], Awaitable[Any]]) -> Any:
        answer = await perform()
        self.ledger.look(operation, self.node)
        return answer

    async def _again(self, operation: str, perform: Callable[[], Awaitable[Any]]) -> None:
        await asyncio.sleep(self.sky.dice.random() * 15)
        self.ledger.excuse(self.node, f"here the {operation} comes again")
        await self._perform(operation, perform)

    def _fail(self, operation: str, why: str) -> None:
        self.ledger.excuse(self.node, f"{operation}: {why}")
        raise StoreAwayError(f"{operation}: {why}", operation=operation)

    # -- the contract ----------------------------------------------------------------------------------------

    async def put(self, groups):
        return await self._weathered("put", lambda: self.store.put(groups))

    async def take(self, want):
        return await self._weathered("take", lambda: self.store.take(want))

    async def apply(self, moves):
        moves = list(moves)

        async def perform():
            under = self.ledger.tokens([move.id for move in moves])
            kept = await self.store.apply(moves)
            self.ledger.check_fences(moves, under, kept)
            return kept

        return await self._weathered("apply", perform)

    async def get(self, ids):
        return await self._weathered("get", lambda: self.store.get(ids))

    async def scan(self, where, after=None, n=100):
        return await self._weathered("scan", lambda: self.store.scan(where, after, n))

    async def swap(self, key, seen, value, ttl=None):
        return await self._weathered("swap", lambda: self.store.swap(key, seen, value, ttl))

    async def cells(self, prefix):
        return await self._weathered("cells", lambda: self.store.cells(prefix))

    async def append(self, topic, events, most=10_000):
        return await self._weathered("append", lambda: self.store.append(topic, events, most))

    async def read(self, topic, after=0, n=100):
        return await self._weathered("read", lambda: self.store.read(topic, after, n))

    async def tend(self, budget=1000):
        return await self._weathered("tend", lambda: self.store.tend(budget))

    async def tally(self):
        return await self._weathered("tally", self.store.tally)

    def listen(self, topics: Iterable[str]) -> Listener:
        return Ear(self, self.store.listen(topics))

    def lease_channel(self) -> LeaseChannel:
        return Channel(self, self.store.lease_channel())


class Ear:
    """A listener to whom not everything comes through."""

    def __init__(self, link: Link, listener: Listener) -> None:
        self._link = link
        self._listener = listener

    async def wait(self, timeout: float) -> bool:
        sky, weather = self._link.sky, self._link.sky.weather
        loop = asyncio.get_running_loop()
        if sky.falls(weather.hint_for_nothing):
            await asyncio.sleep(min(timeout, sky.dice.random() * 3))
            return True
        deadline = loop.time() + timeout
        while (left := deadline - loop.time()) > 0:
            if not await self._listener.wait(left):
                return False
            if sky.has_cut(self._link.node) or sky.falls(weather.hint_lost):
                continue
            if sky.falls(weather.hint_late):
                await asyncio.sleep(sky.dice.random() * 5)
            return True
        return False

    def close(self) -> None:
        self._listener.close()


class Channel:
    """Renewals over the same weather, in a thread that runs in step."""

    def __init__(self, link: Link, channel: LeaseChannel) -> None:
        self._link = link
        self._channel = channel

    def renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        link, sky, weather = self._link, self._link.sky, self._link.sky.weather
        if sky.falls(weather.renewal_slow):
            link.ledger.excuse(link.node, "a renewal takes long")
            pause_thread(sky.dice.random() * 8)
            link.ledger.excuse(link.node, "a renewal took long")
        if sky.has_cut(link.node) or link.closed_for_good:
            self._fail("cut off")
        if sky.falls(weather.renewal_lost / 2):
            self._fail("the request was lost")
        under = link.ledger.tokens([one.id for one in leases])
        answers = self._channel.renew(leases, lease)
        link.ledger.check_fences(leases, under, [one.answer != "lost" for one in answers])
        link.ledger.look("renew", link.node)
        if sky.falls(weather.renewal_lost / 2):
            self._fail("the answer was lost")
        return answers

    def _fail(self, why: str) -> None:
        self._link.ledger.excuse(self._link.node, f"renew: {why}")
        raise StoreAwayError(f"renew: {why}", operation="renew")

    def close(self) -> None:
        self._channel.close()


async def _nothing() -> None:
    """What is done to open a store that is there."""
