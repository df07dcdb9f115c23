"""A shift: what a worker does between its start and its stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from types import MappingProxyType
from typing import Any

from sitq.backends.base import Backend, Lease, Listener, Taken, queue_topic, worker_topic
from sitq.codec import Codec
from sitq.events import Listeners
from sitq.exceptions import BackendError
from sitq.middleware import AroundAttempt
from sitq.move import Note, Settle
from sitq.policy import crash
from sitq.policy import outcome as came_to
from sitq.provision import Overrides
from sitq.record import SECOND, Record, kept_until
from sitq.worker.around import Surroundings
from sitq.worker.blocked import LoopWatch
from sitq.worker.claim import Claims
from sitq.worker.leases import LeaseKeeper, News
from sitq.worker.overstay import CLEAN_UP
from sitq.worker.patience import within
from sitq.worker.reports import Reports
from sitq.worker.retirement import Retirement
from sitq.worker.run import Interruption, Run
from sitq.worker.runs import Runs
from sitq.worker.scope import NO_STATE, WorkerScope
from sitq.worker.settings import Settings
from sitq.worker.settle import Settler, Verdict
from sitq.worker.telling import log_starts
from sitq.worker.upkeep import tend
from sitq.worker.vitals import Vitals, vitals

logger = logging.getLogger("sitq.worker")


class Shift:
    """Claims, runs and settles in one event loop until it is stopped or, in a burst, until nothing is left.

    It never claims more than it can start.
    """

    def __init__(
        self,
        backend: Backend,
        codec: Codec,
        settings: Settings,
        *,
        burst: bool,
        middleware: Sequence[AroundAttempt] = (),
        overrides: Overrides = MappingProxyType({}),
        state: Any = NO_STATE,
        retiring: Callable[[], None] = lambda: None,
        listeners: Listeners | None = None,
    ) -> None:
        self._backend = backend
        self._contents = codec.contents
        self._settings = settings
        self._burst = burst
        self._loop = asyncio.get_running_loop()
        self._grace = settings.grace
        self._stopped = asyncio.Event()
        self._ends_by: float | None = None
        self._wake = asyncio.Event()
        self._sated = False
        self._clock_offset = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._suspects: list[Run] = []
        self._scope = WorkerScope(state)
        codec.prepare = Surroundings(middleware, self._scope, overrides).prepare
        self._listeners = listeners or Listeners()
        self._reports = Reports(backend, self._listeners, settings.worker, self.now)
        self._settler = Settler(backend, self._settled)
        self._runs = Runs(backend, codec, settings, self._settler, now=self.now, changed=self._freed)
        self._tells = logger.isEnabledFor(logging.DEBUG)
        self._keeper = LeaseKeeper(
            backend.lease_channel,
            settings.lease,
            settings.renewal,
            self._heard_anywhere,
            watch=LoopWatch(self._runs.in_flight),
        )
        limited = settings.tasks is not None or settings.memory is not None
        self._retiring = retiring
        self._retirement = Retirement(settings.tasks, settings.memory) if limited else None
        self._claims = Claims(backend, settings, self._keeper, self._runs.processes, self._runs.left)
        self._ears: list[Listener] = []

    @property
    def _stopping(self) -> bool:
        return self._runs.stopping

    def now(self) -> int:
        """The store's time as of its last answer, carried on by this host's monotonic clock."""
        return time.monotonic_ns() // 1000 + self._clock_offset

    @property
    def retired(self) -> str:
        """Why it claims nothing more though nobody stopped it, or ""."""
        return "" if self._retirement is None else self._retirement.why

    def vitals(self) -> Vitals:
        """How it is, for a health probe; from any thread."""
        return vitals(
            started=True,
            claimed=self._claims.answered,
            renewed=self._keeper.answered,
            poll=self._settings.poll,
            now=time.monotonic(),
            stuck=self._runs.overstayers.everywhere,
        )

    def stop(self, grace: float | None = None) -> None:
        """Claim nothing more; running tasks get `grace` seconds (by default the worker's) to end."""
        self._runs.stopping = True
        if grace is not None:
            self._grace = grace
        self._wake.set()
        self._stopped.set()

    async def work(self) -> None:
        """Work until stopped, then let the running tasks end, and hand back those that do not."""
        self._runs.begin()
        try:
            await self._work()
        finally:  # a worker that could not begin, or is cancelled while it ends, leaves nothing behind either
            self._runs.stopping = True
            for listener in self._ears:
                listener.close()
            self._runs.close()
            self._reports.forget()
            self._keeper.close()

    async def _work(self) -> None:
        self._keeper.start()
        self._reports.begin()
        queues = self._listen({queue_topic(queue) for queue in self._settings.queues})
        own = self._listen({worker_topic(self._settings.worker)})
        beside = [
            asyncio.create_task(self._pass_on(queues, self._wake.set)),
            asyncio.create_task(self._pass_on(own, self._keeper.renew_soon)),
            asyncio.create_task(tend(self._backend, self._contents, self._keeper)),
        ]
        try:
            await self._claim_until_stopped()
            await self._let_end()
        finally:
            self._runs.stopping = True
            for task in beside:
                task.cancel()
            await asyncio.wait(beside, timeout=CLEAN_UP)
            await self._hand_back()
            await self._scope.close()
            self._runs.desk.close()
            await self._reports.end()
            await self._runs.processes.close()

    def _listen(self, topics: set[str]) -> Listener:
        listener = self._backend.listen(topics)
        self._ears.append(listener)
        return listener

    # -- claim ---------------------------------------------------------------------------------------------

    async def _claim_until_stopped(self) -> None:
        """Claim; a claim that the store does not answer does not hold up a stop."""
        claiming = self._loop.create_task(self._claim())
        stopped = self._loop.create_task(self._stopped.wait())
        try:
            await asyncio.wait([claiming, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not claiming.done():
                self._ends_by = self._loop.time() + self._grace
                await asyncio.wait([claiming], timeout=CLEAN_UP)
            if claiming.done():
                claiming.result()
        finally:
            claiming.cancel()
            stopped.cancel()

    async def _claim(self) -> None:
        while not self._stopping:
            self._wake.clear()
            if self._suspects:
                await self._run_alone()
                continue
            free = self._free_slots()
            if self._retirement is not None:
                free = self._retirement.left(free)
                if self._retirement.why:
                    logger.info("claiming nothing more, as %s", self._retirement.why)
                    self._retiring()
                    return
            if free <= 0:
                await self._wake.wait()
                continue
            quiet = not (self._runs.busy or self._settler.unsettled)
            taken = await self._claims.take(free, stopped=lambda: self._stopping)
            if taken is None:
                return
            self._clock_offset = taken.now - time.monotonic_ns() // 1000
            self._begin(taken)
            if self._retirement is not None:
                self._retirement.claimed(len(taken.records))
            if len(taken.records) == free:
                continue
            if self._burst and quiet and not taken.records:
                return
            self._sated = True
            await self._rest(self._claims.idle_time(taken))
            self._sated = False

    def _free_slots(self) -> int:
        # Outcomes that a slow store has not taken yet hold back new claims, or they would pile up.
        limit = self._settings.concurrency
        busy, processes = self._runs.busy, self._runs.processes
        free = min(limit - busy, 2 * limit - busy - self._settler.unsettled)
        return free if not processes.names else min(free, processes.free or free)

    def _freed(self) -> None:
        # If the last claim left places free, one more is no reason to claim: a look follows when its outcome
        # is stored, and this one would only be in the way of that.
        if not self._sated:
            self._wake.set()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _begin(self, taken: Taken) -> None:
        self._keeper.hold([_lease(record) for record in taken.records])
        if not self._stopping:
            taking = [one for one in taken.records if one.inputs and crash.judge(one) == "clear"]
            if taking:
                self._runs.expect(taking)
        for record in taken.records:
            run = Run(record, self._runs.desk)
            if self._stopping:
                self._runs.settle(run, came_to.HandedBack())
                continue
            match crash.judge(record):
                case "clear":
                    self._runs.start(run)
                case "suspect":
                    self._suspects.append(run)
                case "condemned":
                    self._runs.settle(run, came_to.Condemned(crash.verdict(record, self.now())))
        if self._tells:
            log_starts(self._begun(taken))
        if self._listeners.active:
            self._reports.started([run.record for run in self._begun(taken)])

    def _begun(self, taken: Taken) -> list[Run]:
        in_flight = self._runs.in_flight
        return [in_flight[record.id] for record in taken.records if record.id in in_flight]

    async def _run_alone(self) -> None:
        """Run a task alone that was there when workers died, once everything else has ended.

        If that takes too long, it goes back, for a worker that has less to do.
        """
        await self._rest_while_busy(self._settings.lease / SECOND)
        run = self._suspects.pop(0)
        if self._runs.busy or self._stopping:
            self._runs.settle(run, came_to.HandedBack(delay=round(random.random() * self._settings.lease)))
            return
        note = Note(id=run.record.id, token=run.record.token or "", alone=run.record.alone + 1)
        noted = await self._patiently(lambda: self._backend.apply([note]))
        if noted == [True]:
            self._runs.start(run)
            if self._tells:
                log_starts([run])
            if self._listeners.active:
                self._reports.started([run.record])
            # Until its outcome is stored: what runs next may kill this worker, and this run would count as
            # one that never came back. A thread that goes on after its time-out keeps a slot and no more.
            while (run.record.id in self._runs.in_flight or self._settler.unsettled) and not self._stopping:
                await self._wake.wait()
                self._wake.clear()
        elif noted:
            self._keeper.drop([_lease(run.record)])
        else:  # the worker stops
            self._runs.settle(run, came_to.HandedBack())

    async def _rest_while_busy(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._runs.busy and not self._stopping:
                    await self._wake.wait()
                    self._wake.clear()

    async def _patiently(self, call: Callable[[], Awaitable[list[bool]]]) -> list[bool]:
        while not self._stopping:
            try:
                return await call()
            except BackendError as error:
                logger.warning("the store did not answer, trying again: %s", error)
                await asyncio.sleep(0.1 + random.random())
        return []

    # -- settle --------------------------------------------------------------------------------------------

    def _settled(self, batch: Sequence[tuple[Run, Verdict]], kept: Sequence[bool]) -> None:
        self._keeper.drop([_lease(run.record) for run, _ in batch])
        if not all(kept):
            for (run, _), one in zip(batch, kept, strict=True):
                if not one:
                    logger.warning("task %s: its outcome came too late and was refused", run.record.id)
        if self._listeners.active:
            self._reports.settled(batch, kept)
        if self._contents.spills:
            self._watch_files(batch)
        self._wake.set()

    def _watch_files(self, batch: Sequence[tuple[Run, Verdict]]) -> None:
        for run, verdict in batch:
            if isinstance(verdict, Settle):
                kept = kept_until(run.record, verdict.state, 0) / SECOND
                self._contents.watch(run.record, verdict.result, kept)

    def _heard_anywhere(self, news: Sequence[News]) -> None:
        self._runs.from_thread(lambda: self._runs.hear(news))

    # -- beside --------------------------------------------------------------------------------------------

    async def _pass_on(self, listener: Listener, wake: Callable[[], None]) -> None:
        while True:
            try:
                heard = await listener.wait(60)
            except Exception as error:  # noqa: BLE001 - hints save time and nothing else
                logger.warning("hints cannot be heard, trying again: %s", error)
                await asyncio.sleep(1 + random.random())
                continue
            if heard:
                wake()

    # -- stop ----------------------------------------------------------------------------------------------

    async def _let_end(self) -> None:
        in_flight = self._runs.in_flight
        while self.retired and in_flight and not self._stopping:  # nothing presses: what runs may end
            self._wake.clear()
            await self._wake.wait()
        deadline = self._ends_by or self._loop.time() + self._grace
        while in_flight and self._loop.time() < deadline:
            self._wake.clear()
            await self._rest(max(0.0, deadline - self._loop.time()))
            deadline = min(deadline, self._loop.time() + self._grace)  # a second, harder stop
        self._ends_by = deadline

    async def _hand_back(self) -> None:
        for suspect in self._suspects:
            self._runs.settle(suspect, came_to.HandedBack())
        self._suspects.clear()
        for record in await within(CLEAN_UP, self._claims.recover(), []):
            self._runs.settle(Run(record), came_to.HandedBack())
        in_flight = self._runs.in_flight
        runs = list(in_flight.values())
        for run in runs:
            run.interrupt(Interruption.SHUTDOWN)
        tasks = [run.task for run in runs if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CLEAN_UP)
        for run in runs:
            if in_flight.pop(run.record.id, None) is not None:  # it does not want to end; the process will
                self._runs.settle(run, came_to.HandedBack())
        left = self._grace if self._ends_by is None else max(0.0, self._ends_by - self._loop.time())
        if not await self._settler.drain(CLEAN_UP + left):
            logger.error("the store did not take the last outcomes; those tasks will run again")


def _lease(record: Record) -> Lease:
    return Lease(record.id, record.token or "")
