"""Typed values through JSON: what goes in is what the function gets, and what it returns comes back.

JSON carries no code, so that workers may read it from anybody. The annotations say what its plain data is.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sitq import JSONSerializer, TaskQueue, ValidationError, Worker, task


@dataclass
class Trip:
    """What travels, with values that JSON does not have."""

    traveller: UUID
    leaves: datetime
    tickets: tuple[Path, ...] = ()


@task(name="postpone")
async def postpone(trip: Trip, *, by: timedelta, holidays: set[date] | None = None) -> Trip:
    leaves = trip.leaves + by
    while holidays and leaves.date() in holidays:
        leaves += timedelta(days=1)
    return Trip(trip.traveller, leaves, trip.tickets)


async def main() -> None:
    async with TaskQueue("memory://", JSONSerializer()) as queue, Worker(queue.backend, JSONSerializer()):
        trip = Trip(UUID(int=7), datetime(2030, 4, 30, 8, tzinfo=UTC), (Path("rome.pdf"),))
        handle = await queue.submit(postpone, trip, by=timedelta(days=1), holidays={date(2030, 5, 1)})
        later = await handle
        print("leaves at", later.leaves.isoformat(), "with", later.tickets[0].name)
        result = await handle.outcome()
        print("stored as", (result.value or b"").decode())
        try:
            await queue.enqueue(postpone, trip, by="a day")
        except ValidationError as error:
            print("refused:", error)


asyncio.run(main())
