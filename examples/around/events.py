"""Events: a listener in the worker's process, and the durable stream that another one reads."""

import asyncio

from sitq import MemoryBackend, RetryPolicy, TaskEvent, TaskQueue, Worker, current_task


async def flaky() -> str:
    if current_task().attempt == 1:
        raise ConnectionError("the other side hung up")
    return "done"


async def main() -> None:
    backend = MemoryBackend()
    queue = TaskQueue(backend, keep_events=1_000)
    worker = Worker(backend, keep_events=1_000)

    @worker.on("retried", "failed")
    def alert(event: TaskEvent) -> None:
        print(f"alert: attempt {event.attempt} {event.kind}: {event.error}")

    async with queue:
        async with worker:
            again = RetryPolicy(max_retries=1, base=0.01)
            await queue.get_result(await queue.options(retry=again).enqueue(flaky), timeout=5)

        cursor = 0
        async for event in queue.events(follow=False):
            print(event.cursor, event.kind)
            cursor = event.cursor
            if event.kind == "retried":
                break  # the reader goes away …

        rest = [event.kind async for event in queue.events(after=cursor, follow=False)]
        print("and later:", ", ".join(rest))


if __name__ == "__main__":
    asyncio.run(main())
