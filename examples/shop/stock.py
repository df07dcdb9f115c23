"""What the workers of the shop hold open while they run."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sitq import Worker


@dataclass
class Shop:
    """The state of a worker: what would be connections and clients in a real one."""

    name: str
    prices: dict[str, int]


@asynccontextmanager
async def lifespan(worker: Worker) -> AsyncGenerator[Shop]:
    """Open it before the first task, close it after the last one."""
    print(f"worker {worker.id}: open", flush=True)
    yield Shop("The fruit shop", {"apple": 3, "pear": 4})
    print(f"worker {worker.id}: closed", flush=True)
