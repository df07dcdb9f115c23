"""The queue of the shop and its tasks. Workers: `sitq worker tasks:queue --queues default,mails`."""

import mails
from stock import Shop, lifespan

from sitq import FromLifespan, TaskQueue, current_task

queue = TaskQueue("sqlite:///shop.db", lifespan=lifespan)
queue.include(mails.router, prefix="mail.")


@queue.task
async def price(fruit: str, pieces: int, shop: Shop = FromLifespan(Shop)) -> int:
    """What an item costs. A fruit that is not sold fails the task, and what depends on it is cancelled."""
    return shop.prices[fruit] * pieces


@queue.task(retry=3, timeout=30)
async def pay(prices: list[int]) -> str:
    """Charge the sum, once, however often the task runs."""
    return await current_task().once("charge", charge, sum(prices))


async def charge(amount: int) -> str:
    """Ask the bank."""
    return f"{amount} paid"


@queue.task(executor="process", timeout=60)
def forecast(days: int) -> int:
    """Something that computes, in a process of its own."""
    return sum(day * day for day in range(days))
