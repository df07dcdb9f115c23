"""What the API consists of: a queue, a store, a worker, and a result, in one process."""

import asyncio
import tempfile
from pathlib import Path

import sitq
from sitq import SQLiteBackend, TaskQueue, Worker


async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def main() -> None:
    print("the public names:", ", ".join(name for name in sitq.__all__ if name[0].isupper()))

    with tempfile.TemporaryDirectory() as folder:
        backend = SQLiteBackend(Path(folder) / "tasks.db")
        await backend.connect()
        queue = TaskQueue(backend)

        task_id = await queue.enqueue(greet, "World")
        print("enqueued:", task_id)

        worker = Worker(backend, max_concurrency=2)
        working = asyncio.create_task(worker.start())

        result = await queue.get_result(task_id, timeout=5)
        if result is not None and result.status == "success":
            print("result:", queue.deserialize_result(result))

        await worker.stop()
        await working
        await queue.close()
        await backend.close()


if __name__ == "__main__":
    asyncio.run(main())
