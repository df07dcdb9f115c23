"""A producer: it enqueues orders as flows, and waits for what becomes of them."""

import asyncio

from mails import confirm
from tasks import forecast, pay, price, queue

from sitq import Task, TaskExecutionError, chain, group

ORDERS = {"ada": {"apple": 2, "pear": 1}, "bob": {"pear": 5}, "eve": {"melon": 1}}


async def main() -> None:
    """Enqueue everything before anything is awaited."""
    async with queue:
        mails = {}
        for customer, items in ORDERS.items():
            prices = group([Task(price, item) for item in items.items()])
            receipt = chain(prices, Task(pay))
            mail = Task(confirm, (customer, receipt.value))
            *_, mails[customer] = await queue.submit_many([*receipt, mail])
        computed = await forecast.submit(100)

        for customer, mail in mails.items():
            try:
                print(await mail.result(timeout=20))
            except TaskExecutionError as error:
                print(f"no mail to {customer}: {error}")
        print("forecast:", await computed.result(timeout=20))


if __name__ == "__main__":
    asyncio.run(main())
