"""A chain that fans out and in, a batch with callbacks, and the drawing of both."""

import asyncio

from sitq import After, MemoryBackend, Task, TaskQueue, Worker, chain, current_task, group, task, value_of


@task(name="pages")
async def pages(book: str) -> list[str]:
    return [f"{book} page {number}" for number in (1, 2, 3)]


@task(name="letters")
async def letters(pages: list[str], index: int) -> int:
    if index == len(pages):
        raise IndexError("there is no such page")
    return sum(each.isalpha() for each in pages[index])


@task(name="total")
async def total(counts: list[int | None]) -> int:
    return sum(count or 0 for count in counts)


@task(name="summary")
async def summary() -> str:
    batch = current_task().batch
    assert batch is not None
    return f"{batch.metadata['title']}: {batch.completed} completed, {batch.failed} failed"


async def main() -> None:
    backend = MemoryBackend()
    async with TaskQueue(backend) as queue, Worker(backend):
        flow = chain(
            Task(pages, ("Emma",)),
            group([Task(letters, kwargs={"index": n}) for n in range(3)]),
            Task(total),
        )
        *_, last = await queue.submit_many(flow)
        print("letters in Emma:", await last)
        graph = await queue.graph(last)
        print(graph.mermaid())

        book = await queue.submit(pages, "Dune")
        counts = [await queue.submit(letters, value_of(book), n) for n in (0, 3)]
        patient = [value_of(After(each, on_failure="ignore")) for each in counts]
        print("letters that could be counted:", await (await queue.submit(total, patient)))

        batch = await queue.batch(
            [Task(letters, (["a", "b"], n)) for n in range(3)],
            on_failure=summary,
            metadata={"title": "two letters"},
        )
        info = await batch
        print(f"{info.ended} of {info.total} ended")
        print(await batch.callbacks["failure"])


if __name__ == "__main__":
    asyncio.run(main())
