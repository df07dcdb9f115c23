"""Many tasks in one call, all or none of them, and many results in another one."""

import asyncio

from sitq import MemoryBackend, Task, TaskQueue, ValidationError, Worker, task


@task(name="count-words")
async def count_words(text: str) -> int:
    return len(text.split())


@task(name="add-up")
async def add_up(counts: list[int]) -> int:
    return sum(counts)


async def main() -> None:
    backend = MemoryBackend()
    async with TaskQueue(backend) as queue:
        # A task as an argument stands for its value: the last one waits for all others.
        counts = [Task(count_words, ("word " * n,), priority=1) for n in range(1000)]
        total = Task(add_up, (counts,))
        ids = await queue.enqueue_many([*counts, total])
        print(f"{len(ids):,} tasks in one call")

        try:
            await queue.enqueue_many([Task(count_words, ("fine",)), Task(count_words, ("too", "many"))])
        except ValidationError as error:
            print("none of them:", error)
        print("stored:", sum(sum(states.values()) for states in (await queue.stats()).values()))

        async with Worker(backend, max_concurrency=100):
            await queue.get_result(total.id, timeout=20)
        results = await queue.get_results([*ids[:4], total.id, "no-such-task"])
        print([None if result is None else queue.deserialize_result(result) for result in results])


if __name__ == "__main__":
    asyncio.run(main())
