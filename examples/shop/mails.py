"""Mails of the shop: a router, for it needs no queue at hand. `tasks.py` includes it."""

from stock import Shop

from sitq import FromLifespan, RetryPolicy, TaskRouter, current_task

router = TaskRouter(queue="mails", retry=RetryPolicy(max_retries=5, base=0.05), timeout=30)


@router.task(name="confirm")
async def confirm(customer: str, receipt: str, shop: Shop = FromLifespan(Shop)) -> str:
    """Tell a customer that the order is paid."""
    if current_task().attempt == 1:
        raise ConnectionError("the mail server does not answer")
    return f"{shop.name} to {customer}: thank you, {receipt}"
