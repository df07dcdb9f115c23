"""Handles: await what a task returns, follow it, wait for many, and meet the error of one that failed."""

from __future__ import annotations

import asyncio

from sitq import MemoryBackend, TaskCancelledError, TaskExecutionError, TaskQueue, Worker


async def fetch(page: int) -> str:
    await asyncio.sleep(0.2 * page)
    if page == 4:
        raise LookupError("there is no page 4")
    return f"page {page}"


def words(*pages: str) -> int:
    return sum(len(page.split()) for page in pages)


async def main() -> None:
    backend = MemoryBackend()
    async with TaskQueue(backend) as queue, Worker(backend):
        handle = await queue.submit(fetch, 1)
        async for update in handle.updates():
            print("update:", update.status)
        print("value:", await handle)

        handles = [await queue.submit(fetch, page) for page in (3, 1, 2)]
        async for ended in queue.as_completed(handles, timeout=10):
            print("ended:", await ended)
        print("gathered:", await queue.gather(*handles))
        print("words:", await queue.handle(await queue.enqueue(words, *handles)).result(timeout=10))

        try:
            await (await queue.submit(fetch, 4))
        except TaskExecutionError as error:
            print("failed:", error.error_type, error.error_message)

        later = await queue.options(delay=3600).submit(fetch, 5)
        print("now:", (await later.peek()).status)
        await later.cancel("not needed any more")
        try:
            await later
        except TaskCancelledError as error:
            print("cancelled:", error.error_message)


asyncio.run(main())
