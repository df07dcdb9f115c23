"""Claims and settles straight at the contract of a store, without a worker: what the store itself costs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from bench.stores.store import RawStore
from sitq.backends.base import Backend, Refused, Share, Want
from sitq.functions import python_version
from sitq.ids import new_id, token
from sitq.move import Settle
from sitq.record import SECOND, Record, State

BATCH: Final = 100
QUEUE: Final = "default"
NAME: Final = "bench.bodies:noop"

GROUP: Final = 2000
_PAYLOAD: Final = bytes(100)
_RESULT: Final = bytes(60)


def plain(n: int) -> Iterator[Record]:
    """Records of tasks without options."""
    return (Record(id=new_id(), queue=QUEUE, name=NAME, payload=_PAYLOAD) for _ in range(n))


async def put(backend: Backend, records: Iterable[Record]) -> None:
    """Store prepared records."""
    source = iter(records)
    while group := list(islice(source, GROUP)):
        (answers,) = await backend.put([group])
        refused = [each for each in answers if isinstance(each, Refused)]
        if refused:
            raise RuntimeError(f"the store refused a record: {refused[0]}")


async def take(backend: Backend, leave: frozenset[str] = frozenset()) -> list[Record]:
    """Claim a batch."""
    want = Want(
        claim=token(),
        worker="bench",
        queues=(Share(QUEUE, BATCH),),
        limit=BATCH,
        lease=10 * SECOND,
        python=python_version(),
        leave=leave,
    )
    return (await backend.take(want)).records


async def settle(backend: Backend, records: Iterable[Record]) -> None:
    """Complete what was claimed."""
    moves = [Settle(id=each.id, token=each.token, state=State.COMPLETED, result=_RESULT) for each in records]
    if not all(await backend.apply(moves)):
        raise RuntimeError("the store refused to settle a task whose lease had not run out")


async def rate(backend: Backend, rounds: int, leave: frozenset[str] = frozenset()) -> float:
    """Tasks a second that are claimed and settled, in rounds of a batch."""
    begun = time.perf_counter()
    for _ in range(rounds):
        records = await take(backend, leave)
        if len(records) != BATCH:
            raise RuntimeError(f"a claim of {BATCH} tasks came back with {len(records)}")
        await settle(backend, records)
    return rounds * BATCH / (time.perf_counter() - begun)


async def raw_rate(raw: RawStore, rounds: int) -> float:
    """The same on the raw store."""
    begun = time.perf_counter()
    for _ in range(rounds):
        rows = await raw.take(BATCH)
        await raw.settle([key for key, _ in rows])
    return rounds * BATCH / (time.perf_counter() - begun)
