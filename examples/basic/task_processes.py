"""Tasks in processes of their own: one computes, one is killed when its time is over, one crashes."""

import asyncio
import os
import signal

from sitq import MemoryBackend, TaskQueue, Worker, current_task


def compute(n: int) -> tuple[int, bool]:
    current_task().progress(0, "counting")
    return sum(k * k for k in range(n)), os.getppid() == WORKER


def forever() -> None:
    while True:
        pass


def crash_once() -> str:
    if current_task().attempt == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "came back"


WORKER = os.getpid()


async def main() -> None:
    backend = MemoryBackend()
    async with TaskQueue(backend) as queue, Worker(backend, process_concurrency=1):
        apart = queue.options(executor="process")
        for task_id in (
            await apart.enqueue(compute, 1000),
            await apart.options(timeout=0.3).enqueue(forever),
            await apart.enqueue(crash_once),
        ):
            result = await queue.get_result(task_id, timeout=30)
            assert result is not None
            print(queue.deserialize_result(result) if result.status == "success" else result.error)


if __name__ == "__main__":
    asyncio.run(main())
