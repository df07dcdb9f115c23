"""Tasks that wait: until an instant, for some seconds, and only so long."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from sitq import MemoryBackend, TaskQueue, Worker


async def remind(text: str) -> str:
    return text


async def main() -> None:
    backend = MemoryBackend()
    queue = TaskQueue(backend)
    began = time.monotonic()

    async with queue, Worker(backend):
        in_half_a_second = datetime.now(UTC) + timedelta(seconds=0.5)
        ids = [
            await queue.enqueue(remind, "second", eta=in_half_a_second),
            await queue.enqueue(remind, "first"),
            await queue.options(delay=1.0).enqueue(remind, "third"),
        ]
        waits = [asyncio.create_task(queue.get_result(task_id, timeout=5)) for task_id in ids]
        for finished in asyncio.as_completed(waits):
            result = await finished
            assert result is not None
            print(f"{time.monotonic() - began:.1f} s: {queue.deserialize_result(result)}")


if __name__ == "__main__":
    asyncio.run(main())
