"""The demo's tasks, and the queue that its worker processes serve."""

import asyncio
import os
import time
from pathlib import Path

from sitq import SQLiteBackend, TaskQueue, current_task

queue = TaskQueue(SQLiteBackend(os.environ["DEMO_DATABASE"]))


async def fetch(page: int) -> tuple[str, int]:
    """An async function: while it waits, its process runs others."""
    await asyncio.sleep(0.2)
    return f"page {page}", os.getpid()


def add_up(below: int) -> tuple[int, int]:
    """A plain function: it runs in a thread."""
    time.sleep(0.05)
    return sum(range(below)), os.getpid()


async def flaky() -> tuple[str, int]:
    """A function that works at the third attempt."""
    attempt = current_task().attempt
    if attempt < 3:
        raise ConnectionError("the other side hung up")
    return f"worked at attempt {attempt}", os.getpid()


def divide(a: int, b: int) -> float:
    """A function that fails, if b is 0."""
    return a / b


async def report(starts: Path) -> tuple[str, int]:
    """A long one. It notes where and when it starts, so that the demo knows which process to kill."""
    with starts.open("a") as file:
        file.write(f"{os.getpid()} {time.time()}\n")
    await asyncio.sleep(2.5)
    return f"ended at attempt {current_task().attempt}", os.getpid()
