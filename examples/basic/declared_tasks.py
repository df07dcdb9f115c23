"""Functions that belong to a queue: options of their own, typed calls, methods and routers."""

import asyncio
from dataclasses import dataclass

from sitq import MemoryBackend, TaskQueue, TaskRouter, Worker

queue = TaskQueue(MemoryBackend())
mails = TaskRouter(queue="mails", retry=3)


@queue.task(timeout=30, tags=["images"])
def resize(path: str, width: int = 100) -> str:
    """Resize an image."""
    return f"{path} at {width}"


@mails.task(name="welcome")
async def send_welcome(to: str) -> str:
    return f"welcome {to}"


@dataclass
class Mailer:
    host: str

    @mails.task(name="send")
    async def send(self, to: str) -> str:
        return f"{to} by {self.host}"


async def main() -> None:
    queue.include(mails, prefix="mail.")
    async with queue, Worker(queue.backend, queues=["default", "mails"]):
        print("called:", resize("a.png"), "|", resize.__doc__)
        print("enqueued:", await (await resize.options(priority=9).submit("a.png", width=20)))
        print("routed:", await (await send_welcome.submit("a@b.c")))
        print("method:", await (await Mailer("example.org").send.submit("a@b.c")))


if __name__ == "__main__":
    asyncio.run(main())
