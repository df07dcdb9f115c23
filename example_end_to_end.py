"""From enqueue to result: several tasks, a worker, a failure, a timeout, and an orderly end.

It needs no server: the tasks are kept in a SQLite file in a temporary folder.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from sitq import SQLiteBackend, TaskQueue, Worker


async def fetch(page: int) -> str:
    await asyncio.sleep(0.1)
    return f"page {page}"


def count_primes(below: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))


async def divide(a: int, b: int) -> float:
    return a / b


async def sleep_long() -> None:
    await asyncio.sleep(60)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = SQLiteBackend(Path(folder) / "tasks.db")
        await backend.connect()
        queue = TaskQueue(backend)
        worker = Worker(backend, max_concurrency=4)
        working = asyncio.create_task(worker.start())
        try:
            await run_them(queue)
        finally:
            # Running tasks would have 20 s to end; the long one goes back to the queue at once.
            await worker.stop(grace=0)
            await working
            await queue.close()
            await backend.close()
    print("closed")


async def run_them(queue: TaskQueue) -> None:
    # Eight pages of 0.1 s each, four at a time, and a plain function, which runs in a thread.
    began = time.monotonic()
    pages = [await queue.enqueue(fetch, page) for page in range(8)]
    primes = await queue.enqueue(count_primes, 10_000)
    for task_id in [*pages, primes]:
        result = await queue.get_result(task_id, timeout=10)
        if result is not None and result.status == "success":
            print("result:", queue.deserialize_result(result))
    print(f"all of them took {time.monotonic() - began:.1f} s")

    # A task that fails does not fail its worker; the caller gets to know why.
    result = await queue.get_result(await queue.enqueue(divide, 1, 0), timeout=5)
    if result is not None and result.traceback is not None:
        print("failed:", result.error)
        print("  the worker's traceback ends with:", result.traceback.splitlines()[-1])

    # A timeout ends the waiting, and not the task.
    result = await queue.get_result(await queue.enqueue(sleep_long), timeout=0.2)
    print("not finished in time:", result)


if __name__ == "__main__":
    asyncio.run(main())
