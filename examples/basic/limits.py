"""Limits for the whole fleet: a rate, one at a time for each customer, a queue's own, and fair shares."""

import asyncio
import time
from collections import Counter
from typing import Annotated

from sitq import ConcurrencyLimit, Fair, MemoryBackend, RateLimit, TaskQueue, Worker

backend = MemoryBackend()
queue = TaskQueue(backend)
running: Counter[str] = Counter()
most: Counter[str] = Counter()
starts: list[str] = []


@queue.task(name="call-api", limits=[RateLimit(20)])
async def call_api(number: int) -> float:
    return time.monotonic()


@queue.task(name="sync-customer")
async def sync_customer(customer: Annotated[str, ConcurrencyLimit(1)]) -> None:
    running[customer] += 1
    most[customer] = max(most[customer], running[customer])
    await asyncio.sleep(0.01)
    running[customer] -= 1


@queue.task(name="render", queue="pages")
async def render(tenant: Annotated[str, Fair()]) -> None:
    starts.append(tenant)


async def main() -> None:
    async with queue:
        for _ in range(50):
            await render.enqueue("large")
        for _ in range(5):
            await render.enqueue("small")
        await queue.limit(ConcurrencyLimit(1), queue="pages")

        async with Worker(backend, queues=["default", "pages"]), Worker(backend, queues=["default", "pages"]):
            calls = [await call_api.submit(number) for number in range(15)]
            syncs = [await sync_customer.submit(f"customer {each % 3}") for each in range(12)]
            times = [await call for call in calls]
            for each in syncs:
                await each
            while len(starts) < 55:
                await asyncio.sleep(0.01)

    print(f"15 calls at 20 a second took at least half a second: {max(times) - min(times) > 0.5}")
    print("most at once for one customer:", max(most.values()))
    print("the small tenant was done after", 55 - starts[::-1].index("small"), "of 55 starts")


if __name__ == "__main__":
    asyncio.run(main())
