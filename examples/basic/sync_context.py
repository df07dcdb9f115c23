"""A program without an event loop: it enqueues, and a worker in a process of its own does the work."""

import subprocess
import sys
import tempfile
from pathlib import Path

from sitq import SQLiteBackend, SyncTaskQueue, TaskExecutionError


def divide(a: int, b: int) -> float:
    return a / b


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.db"
        with SyncTaskQueue(SQLiteBackend(path)) as queue:
            good = queue.enqueue(divide, 1, 4)
            bad = queue.enqueue(divide, 1, 0)

            # The URL of the store is enough for a worker: the functions come with their tasks.
            command = [
                sys.executable,
                "-m",
                "sitq",
                "worker",
                f"sqlite:///{path}",
                "--burst",
                "--log-level=warning",
            ]
            subprocess.run(command, check=True)

            print("1 / 4 =", queue.get_result(good, timeout=5))
            try:
                queue.get_result(bad, timeout=5)
            except TaskExecutionError as error:
                print("1 / 0 failed:", error.error_message)


if __name__ == "__main__":
    main()
