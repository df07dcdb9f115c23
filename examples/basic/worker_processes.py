"""Work for several processes: the queue that they serve is named in a module, `app` below."""

import asyncio
import importlib
import os
import sys
import tempfile
from pathlib import Path

from sitq import SQLiteBackend, TaskQueue

APP = """\
import os
import time

from sitq import SQLiteBackend, TaskQueue

queue = TaskQueue(SQLiteBackend("tasks.db"))


def work(number):
    time.sleep(0.3)
    return number * number, os.getpid()
"""


async def main() -> None:
    work = importlib.import_module("app").work

    async with TaskQueue(SQLiteBackend("tasks.db")) as queue:
        ids = [await queue.enqueue(work, number) for number in range(8)]
        command = [
            sys.executable,
            "-m",
            "sitq",
            "worker",
            "app:queue",
            "--processes=2",
            "--concurrency=1",
            "--burst",
        ]
        process = await asyncio.create_subprocess_exec(*command, "--log-level=warning")
        values = []
        for task_id in ids:
            result = await queue.get_result(task_id, timeout=10)
            assert result is not None
            values.append(queue.deserialize_result(result))
        await process.wait()
        print("squares:", *(square for square, _ in values))
        print("worker processes:", len({pid for _, pid in values}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        Path("app.py").write_text(APP)
        asyncio.run(main())
