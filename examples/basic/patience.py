"""Tasks that put themselves off: `Snooze` for one, `Throttled` for all that share a limit."""

import asyncio
import time

from sitq import MemoryBackend, RateLimit, Snooze, TaskQueue, Throttled, Worker, current_task

backend = MemoryBackend()
queue = TaskQueue(backend)
opens = time.monotonic() + 0.2
calls: list[float] = []


@queue.task(name="open-shop")
async def open_shop() -> str:
    if time.monotonic() < opens:
        raise Snooze(0.05)  # no failure, and no retry is used
    return f"open after {current_task().attempt} looks"


@queue.task(name="call-api", limits=[RateLimit(1000, key="api")])
async def call_api(number: int) -> int:
    calls.append(time.monotonic())
    if len(calls) == 1:  # the other side says that it has had enough: nobody calls it for so long
        raise Throttled(retry_after=0.3)
    return number


async def main() -> None:
    async with queue, Worker(backend):
        shop = await open_shop.submit()
        print(await shop)

        numbers = [await call_api.submit(0)]
        while not calls or await numbers[0].status() == "running":
            await asyncio.sleep(0.01)
        numbers += [await call_api.submit(number) for number in (1, 2)]
        print("called:", sorted([await number for number in numbers]))
        print(f"after the refusal nobody called for 0.3 s: {calls[1] - calls[0] >= 0.3}")
        print("retries used:", (await shop.info()).failures + (await numbers[0].info()).failures)


if __name__ == "__main__":
    asyncio.run(main())
