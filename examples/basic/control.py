"""An operator at work: pause, list, cancel, change, retry and purge tasks, and bound a queue."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from sitq import QueueFullError, SQLiteBackend, Task, TaskQueue, Worker, task

mail_server_is_up = False


@task(name="send")
async def send(to: str) -> str:
    if not mail_server_is_up:
        raise OSError("the mail server is away")
    return f"sent to {to}"


async def work(queue: TaskQueue) -> None:
    global mail_server_is_up  # noqa: PLW0603 - a script
    handles = await queue.submit_many([Task(send, (to,)) for to in ("ada", "bob", "eve")])
    await queue.gather(*handles, return_exceptions=True)
    for info in await queue.tasks(state="failed"):
        print("failed:", info.function, info.preview, info.errors[-1].message)

    await queue.pause(reason="the mail server is away", until=600)
    print("paused:", [(each.kind, each.name, each.reason) for each in await queue.pauses()])
    again = await queue.retry(state="failed")
    print("retried:", len(again), "and once more:", len(await queue.retry(state="failed")))
    print("cancelled:", await queue.cancel(text="eve", reason="she left"))

    mail_server_is_up = True
    await queue.resume()
    print("worked:", sorted(await queue.gather(*map(queue.handle, again[:2]), timeout=10)))

    later = await queue.options(delay=3600).submit(send, "dan")
    await queue.change(later, delay=0, priority=10)
    print("brought forward:", await later.result(timeout=10))

    await queue.pause()
    bounded = queue.options(max_length=2)
    await bounded.enqueue(send, "fay")
    await bounded.enqueue(send, "gil")
    try:
        await bounded.enqueue(send, "hal")
    except QueueFullError:
        print("full:", await queue.stats())
    print("purged:", await queue.purge(["failed", "completed", "cancelled"]))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = SQLiteBackend(Path(folder) / "tasks.db")
        async with TaskQueue(backend, queue="emails") as queue, Worker(backend, queues=["emails"]):
            await work(queue)


asyncio.run(main())
