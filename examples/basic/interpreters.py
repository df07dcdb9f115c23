"""A function in an interpreter of its own, which shares no lock with the others; from Python 3.14 on."""

import asyncio
import math

from sitq import MemoryBackend, TaskQueue, ValidationError, Worker


async def main() -> None:
    backend = MemoryBackend()
    async with TaskQueue(backend) as queue, Worker(backend):
        try:
            apart = queue.options(executor="interpreter")
        except ValidationError as error:
            print("refused:", error)
            return
        print("in an interpreter of its own:", await (await apart.submit(math.comb, 5, 2)))


if __name__ == "__main__":
    asyncio.run(main())
