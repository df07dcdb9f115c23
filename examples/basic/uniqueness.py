"""Unique tasks: one at a time of a key, the newest arguments win, at most one in a time."""

import asyncio

from sitq import DuplicateTaskError, MemoryBackend, TaskQueue, Unique, Worker, debounce, throttle

backend = MemoryBackend()
queue = TaskQueue(backend)


@queue.task(unique=True)
async def report(day: str) -> str:
    return f"report of {day}"


@queue.task(unique=debounce(0.1, key=lambda text: "search"))
async def search(text: str) -> str:
    return f"searched for {text}"


@queue.task(unique=throttle(3600, key="mirror"))
async def mirror(page: str) -> str:
    return f"mirrored {page}"


async def main() -> None:
    async with queue:
        first, second = await report.enqueue("monday"), await report.enqueue("monday")
        print("two enqueues, one task:", first == second)

        try:
            await report.options(unique=Unique("weekly", clash="raise")).enqueue("tuesday")
            await report.options(unique=Unique("weekly", clash="raise")).enqueue("tuesday")
        except DuplicateTaskError as error:
            print("the key is held by a task:", bool(error.existing_id))

        async with Worker(backend):
            for text in ("s", "si", "sitq"):
                handle = await search.submit(text)
            print(await handle)

            print(await (await mirror.submit("home")))
            print("an hour has not passed:", await (await mirror.submit("about")))


if __name__ == "__main__":
    asyncio.run(main())
