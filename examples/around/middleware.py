"""Middleware: a user's name travels with each task, and each attempt is measured."""

import asyncio
import time
from contextvars import ContextVar
from dataclasses import replace

from sitq import MemoryBackend, Middleware, ReservedTask, Task, TaskQueue, Worker, task
from sitq.middleware import AttemptNext, EnqueueNext

user: ContextVar[str] = ContextVar("user", default="nobody")


class CarryUser(Middleware):
    """Both sides of it: the producer adds an argument, the worker takes it out again."""

    async def enqueue(self, task: Task, call_next: EnqueueNext) -> str:
        return await call_next(task.replace(kwargs={**task.kwargs, "_user": user.get()}))

    async def attempt(self, task: ReservedTask, call_next: AttemptNext) -> object:
        kwargs = dict(task.kwargs)
        user.set(kwargs.pop("_user"))
        return await call_next(replace(task, kwargs=kwargs))


async def measure(task: ReservedTask, call_next: AttemptNext) -> object:
    begun = time.monotonic()
    try:
        return await call_next(task)
    finally:
        took = time.monotonic() - begun
        print(f"attempt {task.attempt} of {task.name.rpartition(':')[2]} took {took:.3f} s")


@task(name="who")  # by its name: a context variable cannot travel along
def who(greeting: str) -> str:
    return f"{greeting}, {user.get()}"


async def main() -> None:
    backend = MemoryBackend()
    queue = TaskQueue(backend, middleware=[CarryUser()])
    async with queue, Worker(backend, middleware=[measure, CarryUser()]):
        user.set("Ada")
        print(await (await queue.submit(who, "hello")))


if __name__ == "__main__":
    asyncio.run(main())
