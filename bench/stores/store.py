"""What a store brings along to be measured."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from bench.bodies import BODIES
from bench.goal import EVERYWHERE, Goal


class RawStore(ABC):
    """The least code that does the work with the store's driver: batches, settled after the run.

    No leases, retries, delays or priorities: it is the ceiling that sitq's figures stand beside.

    Args:
        url: What `Store.fresh` made.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    async def connect(self) -> None:
        """Open the store and make what is needed in it."""

    @abstractmethod
    async def close(self) -> None:
        """Close it."""

    @abstractmethod
    async def enqueue(self, body: str) -> Any:
        """Store one task durably; its handle."""

    @abstractmethod
    async def enqueue_many(self, body: str, n: int) -> None:
        """Store n tasks in one step."""

    @abstractmethod
    async def value(self, handle: Any) -> None:
        """Wait for the result of a task and read it."""

    @abstractmethod
    async def take(self, n: int) -> Sequence[tuple[Any, str]]:
        """Claim up to n tasks: the key and the body of each."""

    @abstractmethod
    async def settle(self, keys: Sequence[Any]) -> None:
        """Store the results of tasks."""

    async def work(self, batch: int) -> None:
        """Run tasks until cancelled."""
        while True:
            rows = await self.take(batch)
            if not rows:
                await asyncio.sleep(0.001)
                continue
            if rows[0][1] == "io":
                await asyncio.gather(*(BODIES[body]() for _, body in rows))
            else:
                for _, body in rows:
                    await BODIES[body]()
            await self.settle([key for key, _ in rows])


@dataclass(frozen=True, slots=True)
class Store:
    """A store, with all that a workload has to know of it.

    Attributes:
        name: As in `--stores`.
        fresh: Makes an empty store and gives its URL, for sitq and for the raw store; removes it at the end.
        raw: The raw store.
        version: What the header says about the store and its driver.
        shared: Whether a worker in another process can use it; otherwise it works in the measuring process.
        goals: The figures to reach, by the name of the row; those of every store are added.
    """

    name: str
    fresh: Callable[[], AbstractContextManager[str]]
    raw: type[RawStore]
    version: Callable[[], str]
    shared: bool = True
    goals: Mapping[str, Goal] = field(default_factory=dict)

    def goal(self, row: str) -> Goal | None:
        """The figure to reach in a row, if there is one."""
        return self.goals.get(row) or EVERYWHERE.get(row)
