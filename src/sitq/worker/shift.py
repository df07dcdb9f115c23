"""A shift: what a worker does between its start and its stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sitq.backends.base import Backend, Lease, Listener, Taken, queue_topic, worker_topic
from sitq.codec import Codec
from sitq.exceptions import BackendError, UnknownFunctionError
from sitq.move import Note, Settle
from sitq.policy import crash
from sitq.policy import outcome as came_to
from sitq.policy.decide import decide
from sitq.record import SECOND, Record, State
from sitq.worker.attempt import Attempts, is_stepping
from sitq.worker.claim import Claims
from sitq.worker.failures import Failures
from sitq.worker.leases import LeaseKeeper, News
from sitq.worker.run import Interruption, Run
from sitq.worker.settings import Settings
from sitq.worker.settle import Settler

_UPKEEP: Final = 5.0
"""Seconds between a worker's turns at upkeep."""

_UPKEEP_BUDGET: Final = 500

_CLEAN_UP: Final = 2.0
"""Seconds that an interrupted task gets for its clean-up, and the store for the last outcomes."""

logger = logging.getLogger("sitq.worker")


class Shift:
    """Claims, runs and settles in one event loop until it is stopped or, in a burst, until nothing is left.

    It never claims more than it can start. A run keeps its slot until its function has really ended, so a
    thread that cannot be stopped keeps it after its time-out, too.
    """

    def __init__(self, backend: Backend, codec: Codec, settings: Settings, *, burst: bool) -> None:
        self._backend = backend
        self._settings = settings
        self._burst = burst
        self._loop = asyncio.get_running_loop()
        self._grace = settings.grace
        self._stopping = False
        self._wake = asyncio.Event()
        self._clock_offset = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._runs: dict[str, Run] = {}
        self._suspects: list[Run] = []
        self._busy = 0
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="sitq-task")
        self._failures = Failures(settings.worker, self.now)
        self._attempts = Attempts(codec, self._threads, self._failures)
        self._settler = Settler(backend, self._settled)
        self._keeper = LeaseKeeper(
            backend.lease_channel, settings.lease, settings.renewal, self._heard_anywhere
        )
        self._claims = Claims(backend, settings, self._keeper)
        self._main: asyncio.Task[Any] | None = None

    def now(self) -> int:
        """The store's time as of its last answer, carried on by this host's monotonic clock."""
        return time.monotonic_ns() // 1000 + self._clock_offset

    def stop(self, grace: float | None = None) -> None:
        """Claim nothing more; running tasks get `grace` seconds (by default the worker's) to end."""
        self._stopping = True
        if grace is not None:
            self._grace = grace
        self._wake.set()

    async def work(self) -> None:
        """Work until stopped, then let the running tasks end, and hand back those that do not."""
        self._main = asyncio.current_task()
        self._keeper.start()
        queues = self._backend.listen({queue_topic(queue) for queue in self._settings.queues})
        own = self._backend.listen({worker_topic(self._settings.worker)})
        beside = [
            asyncio.create_task(self._pass_on(queues, self._wake.set)),
            asyncio.create_task(self._pass_on(own, self._keeper.renew_soon)),
            asyncio.create_task(self._tend()),
        ]
        try:
            await self._claim()
            await self._let_end()
        finally:
            self._stopping = True
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            queues.close()
            own.close()
            await self._hand_back()
            self._keeper.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    # -- claim ---------------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        while not self._stopping:
            self._wake.clear()
            if self._suspects:
                await self._run_alone()
                continue
            free = self._free_slots()
            if free <= 0:
                await self._wake.wait()
                continue
            quiet = not (self._busy or self._settler.unsettled)
            taken = await self._claims.take(free, stopped=lambda: self._stopping)
            if taken is None:
                return
            self._clock_offset = taken.now - time.monotonic_ns() // 1000
            self._begin(taken)
            if len(taken.records) == free:
                continue
            if self._burst and quiet and not taken.records:
                return
            await self._rest(self._claims.idle_time(taken))

    def _free_slots(self) -> int:
        # Outcomes that a slow store has not taken yet hold back new claims, or they would pile up.
        limit = self._settings.concurrency
        return min(limit - self._busy, 2 * limit - self._busy - self._settler.unsettled)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _begin(self, taken: Taken) -> None:
        self._keeper.hold([_lease(record) for record in taken.records])
        for record in taken.records:
            run = Run(record)
            if self._stopping:
                self._settle(run, came_to.HandedBack())
                continue
            match crash.judge(record):
                case "clear":
                    self._start(run)
                case "suspect":
                    self._suspects.append(run)
                case "condemned":
                    self._settle(run, came_to.Condemned(crash.verdict(record, self.now())))

    # -- run -----------------------------------------------------------------------------------------------

    def _start(self, run: Run) -> None:
        self._busy += 1
        before = self._runs.get(run.record.id)
        if before is not None:  # its lease ran out here, and this worker was the first to notice
            before.interrupt(Interruption.LOST)
        self._runs[run.record.id] = run
        run.task = self._loop.create_task(self._attempt(run))

    async def _attempt(self, run: Run) -> None:
        try:
            outcome = await self._attempts.outcome(run)
        except UnknownFunctionError as error:
            self._leave(run.record, error)
            outcome = came_to.HandedBack()
        except asyncio.CancelledError as error:
            outcome = self._cancelled(run, error)
        except GeneratorExit as error:
            if not is_stepping(run):
                raise  # the coroutine is thrown away with its event loop
            outcome = came_to.Raised(self._failures.of(run.record, "raised", error))
        known = self._runs.get(run.record.id) is run  # if not, it was handed back, or claimed again
        if known:
            del self._runs[run.record.id]
        if run.interruption is Interruption.LOST:
            logger.warning("task %s: its lease was lost, its outcome is dropped", run.record.id)
        elif known:
            self._settle(run, outcome)
        if run.thread is None or run.thread.done():
            self._free()
        else:
            run.thread.add_done_callback(lambda _: self._from_thread(self._free))

    def _cancelled(self, run: Run, error: asyncio.CancelledError) -> came_to.Outcome:
        """What a cancellation means that the worker did not ask for."""
        if self._main is None or self._main.cancelling() or self._main.done():  # the event loop is torn down
            run.interruption = run.interruption or Interruption.SHUTDOWN
            return came_to.HandedBack()
        return came_to.Raised(self._failures.of(run.record, "raised", error))  # the task cancelled itself

    def _free(self) -> None:
        self._busy -= 1
        self._wake.set()

    def _leave(self, record: Record, error: UnknownFunctionError) -> None:
        if record.name not in self._claims.left:
            self._claims.left.add(record.name)
            logger.warning("tasks of %s are left to other workers: %s", record.name, error)

    async def _run_alone(self) -> None:
        """Run a task alone that was there when workers died, once everything else has ended.

        If that takes too long, it goes back, for a worker that has less to do.
        """
        await self._rest_while_busy(self._settings.lease / SECOND)
        run = self._suspects.pop(0)
        if self._busy or self._stopping:
            self._settle(run, came_to.HandedBack(delay=round(random.random() * self._settings.lease)))
            return
        note = Note(id=run.record.id, token=run.record.token or "", alone=True)
        noted = await self._patiently(lambda: self._backend.apply([note]))
        if noted == [True]:
            self._start(run)
            # Until its outcome is known: a thread that goes on after its time-out keeps a slot and no more.
            while run.record.id in self._runs and not self._stopping:
                await self._wake.wait()
                self._wake.clear()
        elif noted:
            self._keeper.drop([_lease(run.record)])
        else:  # the worker stops
            self._settle(run, came_to.HandedBack())

    async def _rest_while_busy(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._busy and not self._stopping:
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

    def _settle(self, run: Run, outcome: came_to.Outcome) -> None:
        verdict = decide(run.record, outcome, self.now())
        if isinstance(verdict, Settle) and verdict.failure is not None:
            _log_end(run.record, verdict)
        self._settler.add(run, verdict)

    def _settled(self, answers: Sequence[tuple[Run, bool]]) -> None:
        self._keeper.drop([_lease(run.record) for run, _ in answers])
        for run, kept in answers:
            if not kept:
                logger.warning("task %s: its outcome came too late and was refused", run.record.id)
        self._wake.set()

    # -- what the lease keeper hears -----------------------------------------------------------------------

    def _heard_anywhere(self, news: Sequence[News]) -> None:
        self._from_thread(lambda: self._heard(news))

    def _heard(self, news: Sequence[News]) -> None:
        for lease, one in news:
            run = self._runs.get(lease.id)
            if run is None or run.record.token != lease.token:
                continue
            if one.answer == "lost":
                run.interrupt(Interruption.LOST)
            else:
                run.interrupt(Interruption.STOP, one.reason)

    def _from_thread(self, call: Callable[[], Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the shift is over
            self._loop.call_soon_threadsafe(call)

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

    async def _tend(self) -> None:
        await asyncio.sleep(_UPKEEP * random.random())
        while True:
            try:
                # Upkeep takes leases that ran out from their holders, as a claim does.
                done = await self._backend.tend(_UPKEEP_BUDGET) if self._keeper.sure else 0
            except Exception as error:  # noqa: BLE001 - it is nobody's but the store's concern
                done = 0
                logger.warning("upkeep failed and will be tried again: %s", error)
            again = 0.05 if done >= _UPKEEP_BUDGET else _UPKEEP * (0.8 + 0.4 * random.random())
            await asyncio.sleep(again)

    # -- stop ----------------------------------------------------------------------------------------------

    async def _let_end(self) -> None:
        deadline = self._loop.time() + self._grace
        while self._runs and self._loop.time() < deadline:
            self._wake.clear()
            await self._rest(max(0.0, deadline - self._loop.time()))
            deadline = min(deadline, self._loop.time() + self._grace)  # a second, harder stop

    async def _hand_back(self) -> None:
        for suspect in self._suspects:
            self._settle(suspect, came_to.HandedBack())
        self._suspects.clear()
        for record in await self._claims.recover():
            self._settle(Run(record), came_to.HandedBack())
        runs = list(self._runs.values())
        for run in runs:
            run.interrupt(Interruption.SHUTDOWN)
        tasks = [run.task for run in runs if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLEAN_UP)
        for run in runs:
            if self._runs.pop(run.record.id, None) is not None:  # it does not want to end; the process will
                self._settle(run, came_to.HandedBack())
        if not await self._settler.drain(_CLEAN_UP + self._grace):
            logger.error("the store did not take the last outcomes; those tasks will run again")


def _log_end(record: Record, verdict: Settle) -> None:
    failure = verdict.failure
    if failure is None or verdict.state not in {State.FAILED, State.DEAD}:
        return
    what = ": ".join(part for part in (failure.type, failure.message) if part)
    trace = f"\n{failure.traceback.rstrip()}" if failure.traceback else ""
    logger.error(
        "task %s of %s in attempt %d: %s: %s%s",
        record.id,
        record.name,
        record.attempt,
        verdict.state,
        what,
        trace,
        extra={"task_id": record.id, "task_name": record.name, "queue": record.queue},
    )


def _lease(record: Record) -> Lease:
    return Lease(record.id, record.token or "")
