"""The processes of a storm that speak to the store: to enqueue, to look on, and to read all at the end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from sitq import RetryPolicy, Task, TaskQueue
from sitq.backends.base import Filter
from sitq.exceptions import BackendError, ResourceExhaustionError
from sitq.limits import ConcurrencyLimit, RateLimit
from sitq.record import TERMINAL, State
from sitq.testing.storm import bodies
from sitq.testing.storm.events import Acked, Invoked, Refused, Seen
from sitq.testing.storm.journal import Journal
from sitq.testing.storm.setup import SERIAL, Setup

_GROUP: Final = 20
"""Tasks that are enqueued together, at the most."""

_PAGE: Final = 500
_TRIES: Final = 100
_LIMIT: Final = 3
_RATE: Final = 8
_BURST: Final = 5
_POISONED: Final = ("segfault", "exit", "abort", "overflow", "memory", "killed")


def make_task(setup: Setup, number: int) -> tuple[Task, Invoked]:
    """The task of a number, and what is to become of it."""
    task_id = f"t{number:07d}"
    dice = random.Random(f"{setup.seed}/{number}")
    plant = _planted(setup, number)
    if plant is not None:
        function, args, expect = plant
        return Task(function, args, id=task_id), Invoked(task=task_id, expect=expect)
    draw = dice.random()
    if draw < 0.03:
        policy = RetryPolicy(max_retries=3, base=0.05, jitter=False)
        return Task(bodies.flaky, id=task_id, retry=policy), Invoked(task=task_id, retries=3)
    if draw < 0.05:
        limit = ConcurrencyLimit(_LIMIT, key="storm")
        task = Task(bodies.pause, (0.005,), id=task_id, limits=[limit])
        return task, Invoked(task=task_id, key="storm", limit=_LIMIT)
    if draw < 0.06:
        task = Task(bodies.quick, id=task_id, limits=[RateLimit(_RATE, per=1, burst=_BURST, key="rated")])
        return task, Invoked(task=task_id, key="rated", rate=_RATE, burst=_BURST)
    if draw < 0.07:
        return Task(bodies.quick, id=task_id, queue=SERIAL), Invoked(task=task_id, lane=SERIAL)
    if draw < 0.10:
        return Task(bodies.thread, (0.01,), id=task_id), Invoked(task=task_id)
    if draw < 0.20:
        return Task(bodies.pause, (0.1,), id=task_id), Invoked(task=task_id)
    return Task(bodies.quick, id=task_id), Invoked(task=task_id)


def _planted(setup: Setup, number: int) -> tuple[Callable[..., Any], tuple[Any, ...], tuple[str, ...]] | None:
    """A burden or a poison, if the number is one of those where such are planted."""
    plants: list[tuple[Callable[..., Any], tuple[Any, ...], tuple[str, ...]]] = []
    for _ in range(setup.poisons):
        plants += [(bodies.poison, (how,), ("dead",)) for how in _POISONED]
        plants += [(bodies.memory, (), ("failed",))]
    plants += [(bodies.block, (setup.lease / 4,), ("completed",))] * 4
    plants += [(bodies.hold, (setup.lease * 1.5,), ("completed", "dead"))] * 2
    between = max(1, setup.tasks // (len(plants) + 1))
    place, rest = divmod(number, between)
    return plants[place - 1] if rest == 0 and 1 <= place <= len(plants) else None


# -- enqueue -----------------------------------------------------------------------------------------------


def produce(setup: Setup, first: int, seconds: float) -> None:
    """Enqueue the tasks from a number on, evenly over so many seconds.

    One that was killed did not hear whether its last group was stored; the next one asks for that again.
    """
    asyncio.run(_produce(setup, first, seconds))


async def _produce(setup: Setup, first: int, seconds: float) -> None:
    journal = Journal(setup.journals, "producer")
    progress, told = setup.place / "enqueued", setup.place / "enqueued.new"
    dice = random.Random(f"{setup.seed}/{first}")
    begun = time.monotonic()
    async with TaskQueue(setup.backend()) as queue:
        number = first
        while number < setup.tasks:
            group = [make_task(setup, n) for n in range(number, min(number + _GROUP, setup.tasks))]
            told.write_text(str(number))
            told.replace(progress)
            for _, invoked in group:
                journal.write(invoked)
            await _enqueue(queue, journal, [task for task, _ in group], together=dice.random() < 0.5)
            number += len(group)
            due = begun + seconds * (number - first) / max(1, setup.tasks - first)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        told.write_text(str(number))
        told.replace(progress)


async def _enqueue(queue: TaskQueue, journal: Journal, tasks: list[Task], *, together: bool) -> None:
    lanes = [task for task in tasks if task.options.queue == SERIAL]
    if together:
        await _put(journal, queue, tasks)
        return
    await asyncio.gather(*(_put(journal, queue, [task]) for task in tasks if task not in lanes))
    for task in lanes:  # their order is that of the acknowledgements
        await _put(journal, queue, [task])


async def _put(journal: Journal, queue: TaskQueue, tasks: list[Task]) -> None:
    """Enqueue tasks together; what a store refuses that is full, or away, is mostly tried again."""
    ids = [task.id for task in tasks]
    known = True
    for _ in range(_TRIES):
        try:
            await queue.enqueue_many(tasks)
        except ResourceExhaustionError as error:
            for task_id in ids if known else ():
                journal.write(Refused(task=task_id, why=str(error)))
            if ids[0].endswith("3"):
                return
            await asyncio.sleep(0.2)
        except BackendError:
            known = False  # it may have been stored
            if ids[0].endswith("5"):
                return
            await asyncio.sleep(0.1)
        else:
            for task_id in ids:
                journal.write(Acked(task=task_id))
            return


def enqueue(setup: Setup, tasks: Sequence[tuple[Task, Invoked]]) -> None:
    """Enqueue these tasks together."""
    asyncio.run(_enqueue_all(setup, tasks))


async def _enqueue_all(setup: Setup, tasks: Sequence[tuple[Task, Invoked]]) -> None:
    journal = Journal(setup.journals, "producer")
    async with TaskQueue(setup.backend()) as queue:
        for _, invoked in tasks:
            journal.write(invoked)
        await _put(journal, queue, [task for task, _ in tasks])


# -- look on -----------------------------------------------------------------------------------------------


def observe(setup: Setup, tell: int) -> None:
    """Tell, again and again, how many tasks are open, and write down ends that it sees, more than once."""
    asyncio.run(_observe(setup, tell))


async def _observe(setup: Setup, tell: int) -> None:
    journal = Journal(setup.journals, "observer")
    known: list[str] = []
    after: int | None = None
    async with TaskQueue(setup.backend()) as queue:
        while os.getppid() != 1:
            try:
                page = await queue.backend.scan(Filter(states=TERMINAL), after, _PAGE // 5)
                after = page.after
                known += [record.id for record in page.records]
                again = random.sample(known, min(len(known), 20))
                await _see(queue, journal, [*again, *(record.id for record in page.records)])
                counts = await queue.backend.tally()
            except BackendError:
                await asyncio.sleep(0.1)
                continue
            open_ = sum(
                n for states in counts.values() for state, n in states.items() if state not in TERMINAL
            )
            os.write(tell, f"{open_}\n".encode())
            await asyncio.sleep(0.2)


def read_everything(setup: Setup) -> None:
    """Write down what is stored of every task."""
    asyncio.run(_read_everything(setup))


async def _read_everything(setup: Setup) -> None:
    journal = Journal(setup.journals, "reader")
    after: int | None = None
    async with TaskQueue(setup.backend()) as queue:
        while True:
            page = await queue.backend.scan(Filter(), after, _PAGE)
            await _see(queue, journal, [record.id for record in page.records], final=True)
            if page.after is None:
                return
            after = page.after


async def _see(queue: TaskQueue, journal: Journal, ids: list[str], *, final: bool = False) -> None:
    records = [record for record in await queue.backend.get(ids) if record is not None]
    values = await _values(queue, [record.id for record in records if record.state is State.COMPLETED])
    for record in records:
        journal.write(
            Seen(
                task=record.id,
                state=record.state.value,
                attempt=record.attempt,
                value=values.get(record.id, ""),
                failures=record.failures,
                final=final,
            )
        )


async def _values(queue: TaskQueue, ids: list[str]) -> dict[str, str]:
    results = await queue.get_results(ids)
    return {one.task_id: str(queue.deserialize_result(one)) for one in results if one is not None}
