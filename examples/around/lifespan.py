"""A worker's lifespan: what is opened before the first task, and closed after the last one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sitq import FromLifespan, MemoryBackend, TaskQueue, Worker, current_task


@dataclass
class State:
    prices: dict[str, int]
    asked: list[str] = field(default_factory=list)


@asynccontextmanager
async def lifespan(worker: Worker) -> AsyncGenerator[State]:
    print("opening")
    state = State(prices={"apple": 3, "pear": 4})
    yield state
    print("closing, asked for:", ", ".join(sorted(state.asked)))


async def price(fruit: str, state: State = FromLifespan(State)) -> int:
    state.asked.append(fruit)
    return state.prices[fruit]


def count() -> int:
    state: State = current_task().state  # in a thread, too
    return len(state.prices)


async def main() -> None:
    backend = MemoryBackend()
    async with TaskQueue(backend) as queue, Worker(backend, lifespan=lifespan):
        for fruit in ("apple", "pear"):
            print(fruit, "costs", await (await queue.submit(price, fruit)))
        print(await (await queue.submit(count)), "prices are known")


if __name__ == "__main__":
    asyncio.run(main())
