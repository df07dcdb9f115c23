"""Those who use the queue: producers that ask again, cancel, wait, and an operator who pauses it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from deeds import Deed
from drawing import drawn_task
from ledger import Claim
from link import Link

from sitq import Task, TaskQueue
from sitq.backends.base import PAUSE_QUEUE
from sitq.exceptions import BackendError, DuplicateTaskError
from sitq.record import SECOND, TERMINAL

if TYPE_CHECKING:
    from world import World


class Users:
    """What is asked of a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def produce(self, name: str) -> None:
        dice = random.Random(f"{name} {self.world.seed}")
        link = self.world.link(name)
        known: list[str] = []
        async with await self._queue(link) as queue:
            beside: list[asyncio.Task[Any]] = []
            for _ in range(dice.randint(3, 20)):
                await asyncio.sleep(dice.random() * dice.choice([0.1, 1, 5]))
                if dice.random() < 0.15:
                    await self._enqueue_several(queue, dice, known)
                else:
                    await self._enqueue(queue, dice, known)
                if known and dice.random() < 0.15:
                    beside.append(
                        self.world.on(name, self._cancel(queue, dice.choice(known), dice.random() * 5))
                    )
                if known and dice.random() < 0.3:
                    beside.append(
                        self.world.on(name, self._wait(queue, dice.choice(known), dice.random() * 60))
                    )
            if beside:
                await asyncio.wait(beside)
            for one in beside:
                one.result()

    async def _queue(self, link: Link) -> TaskQueue:
        queue = TaskQueue(link)
        while True:
            try:
                await queue.connect()
                return queue
            except BackendError:
                await asyncio.sleep(0.5)

    async def _enqueue(self, queue: TaskQueue, dice: random.Random, known: list[str]) -> None:
        await self._enqueue_all(queue, [drawn_task(self.world, dice, known)], dice, known)

    async def _enqueue_several(self, queue: TaskQueue, dice: random.Random, known: list[str]) -> None:
        several = [drawn_task(self.world, dice, known) for _ in range(dice.randint(2, 5))]
        await self._enqueue_all(queue, several, dice, known)

    async def _enqueue_all(
        self, queue: TaskQueue, drawn_tasks: list[tuple[Task, Deed]], dice: random.Random, known: list[str]
    ) -> None:
        """As a producer that asks again under the same ids until it has an answer, or loses heart."""
        tasks = [task for task, _ in drawn_tasks]
        for task, deed in drawn_tasks:
            self.world.deeds[task.id] = deed
            self.world.ledger.told[task.id] = Claim(task.id, 0, answered=False)
        for _ in range(dice.randint(1, 8)):
            try:
                ids = await queue.enqueue_many(tasks)
            except DuplicateTaskError:
                return
            except BackendError:
                await asyncio.sleep(dice.random())
                continue
            for task_id in ids:
                self.world.ledger.told[task_id] = Claim(task_id, 0, answered=True)
                known.append(task_id)
            return

    async def _cancel(self, queue: TaskQueue, task_id: str, after: float) -> None:
        await asyncio.sleep(after)
        deed = self.world.deeds.get(task_id, Deed())
        self.world.deeds[task_id] = Deed(deed.may_fail, may_cancel=True)
        try:
            kept = await queue.cancel(task_id, "by a user")
        except BackendError:
            return
        self.world.ledger.say(f"cancel of {task_id[-6:]} was answered with {kept}")
        if kept:
            self.world.ledger.stop_acknowledged(task_id)

    async def _wait(self, queue: TaskQueue, task_id: str, seconds: float) -> None:
        before = self.world.loop.time()
        try:
            result = await queue.get_result(task_id, timeout=seconds)
        except BackendError:
            return
        took = self.world.loop.time() - before
        record = self.world.store._store.records.get(task_id)
        if result is None:
            self.world.ledger.demand(
                took <= seconds + 30 or not self.world.quiet, f"a wait of {seconds} s took {took} s"
            )
            return
        self.world.ledger.demand(
            record is not None and record.state in TERMINAL, f"{task_id} was told to have ended, and has not"
        )
        if result.status == "success":
            assert record is not None
            _, attempt = queue.deserialize_result(result)
            self.world.ledger.demand(
                attempt == record.attempt, f"{task_id}: the value is that of another attempt"
            )

    async def pause_now_and_then(self) -> None:
        link = self.world.link("p0")
        dice = self.world.dice
        while not link.connected:
            try:
                await link.connect()
            except BackendError:
                await asyncio.sleep(1)
        for _ in range(dice.randint(0, 3)):
            await asyncio.sleep(dice.random() * 8)
            seconds = dice.random() * 4
            try:
                paused = await link.swap(PAUSE_QUEUE + "other", None, b"now", round(seconds * SECOND))
            except BackendError:
                continue
            if paused:
                self.world.ledger.say(f"the queue is paused for {seconds} s")
        await link.close()
