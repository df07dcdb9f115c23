"""A task that is tried again without charging twice, and says how far it is."""

import asyncio

from sitq import MemoryBackend, RetryPolicy, TaskQueue, Worker, current_task, task

told = asyncio.Event()


async def charge(card: str) -> str:
    print("charging", card)
    return f"receipt for {card}"


async def order(card: str) -> str:
    here = current_task()
    receipt = await here.once("charge", charge, card)
    here.progress(0.5, "charged")
    if here.attempt < 3:
        raise ConnectionError("the mail server is away")
    here.progress(1, "sent")
    return f"sent {receipt} at attempt {here.attempt}"


async def refuse() -> None:
    raise PermissionError("no access")


@task(name="give-up")
async def give_up(_task_id: str, error: str) -> None:
    print("given up:", error)
    told.set()


async def main() -> None:
    backend = MemoryBackend()
    policy = RetryPolicy(delays=[0.05, 0.1], stop_on=[PermissionError], on_exhausted=give_up)
    async with TaskQueue(backend) as queue, Worker(backend):
        patient = queue.options(retry=policy)
        task_id = await patient.enqueue(order, "visa")
        result = await queue.get_result(task_id, timeout=10)
        assert result is not None
        print(queue.deserialize_result(result))
        (record,) = await backend.get([task_id])
        assert record is not None
        print("progress:", ", ".join(note.message for note in record.progress))
        await patient.enqueue(refuse)
        await asyncio.wait_for(told.wait(), 10)


if __name__ == "__main__":
    asyncio.run(main())
