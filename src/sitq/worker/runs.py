"""The attempts that a worker has in flight: from their start until what they came to is handed on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from sitq.backends.base import Backend
from sitq.codec import Codec
from sitq.exceptions import SitqError, UnknownFunctionError
from sitq.ids import new_id
from sitq.move import Settle
from sitq.policy import outcome as came_to
from sitq.policy.decide import decide, hook
from sitq.record import Record
from sitq.worker.attempt import Attempts
from sitq.worker.desk import Desk
from sitq.worker.elsewhere import Elsewhere
from sitq.worker.failures import Failures
from sitq.worker.inputs import Inputs
from sitq.worker.interpreters import Interpreters
from sitq.worker.leases import News
from sitq.worker.overstay import CLEAN_UP, Overstayers
from sitq.worker.processes import Processes
from sitq.worker.run import Interruption, Run, is_stepping
from sitq.worker.settings import Settings
from sitq.worker.settle import Settler, Verdict
from sitq.worker.telling import log_end, log_return, log_success

logger = logging.getLogger("sitq.worker")


class Runs:
    """Starts runs, tells them to stop, and settles what they came to.

    A run keeps its place until its function has really ended, so a thread that cannot be stopped keeps it
    after its time-out, too.

    Args:
        backend: The store.
        codec: Reads calls and writes results.
        settings: The worker's.
        settler: Stores verdicts.
        now: The store's time.
        changed: Called when a place is free again.

    Attributes:
        in_flight: The runs whose outcome is not known yet, by the ids of their tasks.
        busy: How many places are taken.
        stopping: Whether the worker is to start nothing more; its shift says so.
        left: Names of functions that this worker leaves to others, as it does not know them.
        desk: Takes what running tasks say.
        processes: Where those run that are to be killed if need be.
        overstayers: Those that hold a place though their outcome is known.
    """

    def __init__(
        self,
        backend: Backend,
        codec: Codec,
        settings: Settings,
        settler: Settler,
        *,
        now: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self.in_flight: dict[str, Run] = {}
        self.busy = 0
        self.stopping = False
        self.left: set[str] = set()
        self.desk = Desk(backend, codec, self.in_flight, now)
        self.processes = Processes(settings.processes, settings.worker)
        self.overstayers = Overstayers(settings.concurrency)
        self._codec = codec
        self._hidden = codec.contents.hidden
        self._settler = settler
        self._now = now
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._main: asyncio.Task[Any] | None = None
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="sitq-task")
        self._interpreters = Interpreters(settings.concurrency)
        self._failures = Failures(settings.worker, now, codec.contents.hidden)
        self._inputs = Inputs(backend, codec)
        self._attempts = Attempts(
            codec,
            self._inputs,
            self._threads,
            self._failures,
            Elsewhere(self._threads, self.processes, self._interpreters),
            overstayed=self.settle_without_its_end,
        )
        self._tells = logger.isEnabledFor(logging.DEBUG)
        self._add = self._tell_and_add if self._tells else settler.add

    def expect(self, records: Sequence[Record]) -> None:
        """Prepare for tasks that are started next and take values of others."""
        self._inputs.expect(records)

    def begin(self) -> None:
        """Begin: the asyncio task that calls it is the worker's own."""
        self._main = asyncio.current_task()

    def close(self) -> None:
        """Start nothing more and wait for nothing. Idempotent."""
        self.desk.close()
        self.processes.kill()
        self._interpreters.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def start(self, run: Run) -> None:
        """Begin one; its outcome is settled when it has ended."""
        self.busy += 1
        if run.record.executor is not None:
            self.processes.reserve(run)
        before = self.in_flight.get(run.record.id)
        if before is not None:  # its lease ran out here, and this worker was the first to notice
            before.interrupt(Interruption.LOST)
        self.in_flight[run.record.id] = run
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
            outcome = self._failures.raised(run.record, error)
        if run.record.executor is not None or self.desk.latest or self.desk.in_flight:
            self.processes.release(run)
            await self.desk.land(run)
        known = self.in_flight.get(run.record.id) is run  # if not, it was handed back, or claimed again
        if known:
            del self.in_flight[run.record.id]
        if run.interruption is Interruption.LOST:
            logger.warning("task %s: its lease was lost, its outcome is dropped", run.record.id)
            self.overstayers.ended(run)
        elif known:
            self.settle(run, outcome)
        else:
            self.overstayers.ended(run)
        if run.thread is None or run.thread.done():
            self._free()
        else:
            self._free_later(run, run.thread)

    def settle_without_its_end(self, run: Run) -> None:
        """Let the outcome count of a run that was told to stop and does not; it keeps its place."""
        record = run.record
        if self.in_flight.get(record.id) is not run:
            return
        del self.in_flight[record.id]
        logger.warning(
            "task %s of %s goes on though it was cancelled %g s ago: it keeps its place until it ends",
            record.id,
            record.name,
            CLEAN_UP,
            extra={"task_id": record.id, "task_name": record.name, "queue": record.queue},
        )
        if run.interruption is not Interruption.LOST:
            self.settle(run, self._attempts.cut_short(run))
        self.overstayers.add(run)

    def _cancelled(self, run: Run, error: asyncio.CancelledError) -> came_to.Outcome:
        """What a cancellation means that the worker did not ask for."""
        if self._main is None or self._main.cancelling() or self._main.done():  # the event loop is torn down
            run.interruption = run.interruption or Interruption.SHUTDOWN
            return came_to.HandedBack()
        return self._failures.raised(run.record, error)  # the task cancelled itself

    def _free(self) -> None:
        self.busy -= 1
        self._changed()

    def _free_later(self, run: Run, thread: Future[Any]) -> None:
        def ended() -> None:
            self.overstayers.ended(run)
            self._free()

        if not self.stopping:
            self.overstayers.add(run)
        thread.add_done_callback(lambda _: self.from_thread(ended))

    def _leave(self, record: Record, error: UnknownFunctionError) -> None:
        if record.name not in self.left:
            self.left.add(record.name)
            logger.warning("tasks of %s are left to other workers: %s", record.name, error)

    # -- settle --------------------------------------------------------------------------------------------

    def settle(self, run: Run, outcome: came_to.Outcome) -> None:
        """Decide what follows from an outcome, and store that soon."""
        verdict = decide(run.record, outcome, self._now())
        if not isinstance(verdict, Settle):
            run.outcome = outcome
            log_return(run.record, verdict)
        elif verdict.failure is not None:
            log_end(run.record, verdict)
            verdict = self._follow_up(run.record, verdict)
        if self._hidden:
            self._hidden.pop(run.record.id, None)
        self._add(run, verdict)

    def _tell_and_add(self, run: Run, verdict: Verdict) -> None:
        if isinstance(verdict, Settle) and verdict.failure is None:
            log_success(run)
        self._settler.add(run, verdict)

    def _follow_up(self, record: Record, verdict: Settle) -> Settle:
        """The verdict with the task that the policy wants when its budget is spent."""
        wanted = hook(record, verdict)
        if wanted is None:
            return verdict
        name, error = wanted
        try:
            following = self._codec.following(record, new_id(), name, (record.id, error))
        except SitqError as refusal:
            logger.error("on_exhausted of task %s is left out: %s", record.id, refusal)  # noqa: TRY400
            return verdict
        return msgspec.structs.replace(verdict, follow=(*verdict.follow, following))

    # -- what the lease keeper hears -----------------------------------------------------------------------

    def hear(self, news: Sequence[News]) -> None:
        """Interrupt those whose lease is lost, or that are asked to stop."""
        for lease, one in news:
            run = self.in_flight.get(lease.id)
            if run is None or run.record.token != lease.token:
                continue
            if one.answer == "lost":
                run.interrupt(Interruption.LOST)
            else:
                run.interrupt(Interruption.STOP, one.reason)
            self._loop.call_later(CLEAN_UP, self.settle_without_its_end, run)

    def from_thread(self, call: Callable[[], Any]) -> None:
        """Call something in the event loop; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the shift is over
            self._loop.call_soon_threadsafe(call)
