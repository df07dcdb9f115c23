"""A task that fails twice, and one that asks for more time by itself."""

import asyncio

from sitq import MemoryBackend, Retry, RetryPolicy, TaskQueue, Worker, current_task


async def flaky() -> str:
    attempt = current_task().attempt
    print("flaky, attempt", attempt)
    if attempt < 3:
        raise ConnectionError("the other side hung up")
    return f"worked at attempt {attempt}"


async def not_yet() -> str:
    if current_task().attempt == 1:
        raise Retry(after=0.1)
    return "now it is ready"


async def main() -> None:
    backend = MemoryBackend()
    queue = TaskQueue(backend)

    async with queue, Worker(backend):
        policy = RetryPolicy(max_retries=5, backoff="exponential", base=0.05)
        first = await queue.options(retry=policy).enqueue(flaky)
        second = await queue.enqueue(not_yet)
        for task_id in (first, second):
            result = await queue.get_result(task_id, timeout=5)
            assert result is not None
            print(queue.deserialize_result(result))


if __name__ == "__main__":
    asyncio.run(main())
