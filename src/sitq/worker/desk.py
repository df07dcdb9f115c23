"""The desk: where a shift takes what its running tasks say about themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from sitq.backends.base import Backend
from sitq.coalesce import Coalescer
from sitq.codec import Codec
from sitq.context import CurrentTask
from sitq.exceptions import ConnectionError, ResourceExhaustionError, ValidationError  # noqa: A004
from sitq.move import Note
from sitq.record import Progress
from sitq.secret import without
from sitq.worker.run import Run

_BETWEEN: Final = 0.25
"""Seconds between two writes of progress."""

_LANDING: Final = 2.0
"""Seconds for which the end of a task waits for its last progress."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0

_MOST_STEPS: Final = 1_000
"""How many steps a task may have: each claim of it reads them all."""

logger = logging.getLogger("sitq.worker")


class Desk:
    """Keeps the progress and the steps of a shift's tasks, in few calls of the store.

    Args:
        backend: The store.
        codec: Turns values of steps into bytes and back.
        runs: The runs of the shift by task id.
        clock: The store's time.

    Attributes:
        latest: Progress that is still to be written.
        in_flight: The tasks whose progress is being written.
    """

    def __init__(
        self, backend: Backend, codec: Codec, runs: Mapping[str, Run], clock: Callable[[], int]
    ) -> None:
        self._codec = codec
        self._hidden = codec.contents.hidden
        self._runs = runs
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._notes: Coalescer[Note, bool] = Coalescer(backend.apply)
        self.latest: dict[str, tuple[CurrentTask, Progress]] = {}
        self.in_flight: set[str] = set()
        self._writing: asyncio.Task[None] | None = None
        self._landing: set[asyncio.Task[None]] = set()
        self._awake = False

    # -- progress ------------------------------------------------------------------------------------------

    def progress(self, task: CurrentTask, fraction: float | None, message: str) -> None:
        """Write it soon; of several until then the last one."""
        if self._hidden:
            message = without(message, self._hidden.get(task.id, ()))
        self.latest[task.id] = (task, Progress(fraction, message, self._clock()))
        if not self._awake:
            self._awake = True
            self._in_loop(self._begin_writing)

    async def land(self, run: Run) -> None:
        """Write the last progress of a task that is about to end."""
        task_id = run.record.id
        writing: list[asyncio.Future[Any]] = []
        if task_id in self.in_flight and self._writing is not None:
            writing.append(self._writing)
        entry = self.latest.pop(task_id, None)
        if entry is not None:
            landing = asyncio.ensure_future(self._write({task_id: entry}))
            self._landing.add(landing)
            landing.add_done_callback(self._landing.discard)
            writing.append(landing)
        if writing:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(writing, timeout=_LANDING)

    def close(self) -> None:
        """Write nothing more."""
        if self._writing is not None:
            self._writing.cancel()
        for landing in self._landing:  # the store has kept it for longer than a task waits
            landing.cancel()
        self._notes.cancel()

    def _begin_writing(self) -> None:
        if self._writing is None:
            self._writing = self._loop.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self.latest:
                entries: dict[str, tuple[CurrentTask, Progress]] = {}
                while self.latest:  # threads add to it meanwhile
                    task_id, entry = self.latest.popitem()
                    entries.setdefault(task_id, entry)
                self.in_flight.update(entries)
                try:
                    await self._write(entries)
                finally:
                    self.in_flight.clear()
        finally:
            self._writing = None
            self._loop.call_later(_BETWEEN, self._look_again)

    def _look_again(self) -> None:
        self._awake = False
        if self.latest:
            self._awake = True
            self._begin_writing()

    async def _write(self, entries: Mapping[str, tuple[CurrentTask, Progress]]) -> None:
        notes = [
            Note(id=run.record.id, token=run.record.token or "", progress=progress)
            for task, progress in entries.values()
            if (run := self._run(task)) is not None
        ]
        written = [self._notes.submit(note) for note in notes]
        for one in await asyncio.gather(*written, return_exceptions=True):
            if isinstance(one, Exception):
                logger.warning("progress of a task could not be written: %s", one)

    # -- steps ---------------------------------------------------------------------------------------------

    def done(self, task: CurrentTask, step: str) -> tuple[Any] | None:
        """The value of a step that an earlier attempt did, or this one."""
        run = self._run(task)
        if run is None or (data := run.record.steps.get(step)) is None:
            return None
        return (self._codec.step_value(run.record, step, data),)

    def keep(self, task: CurrentTask, step: str, value: Any) -> Future[None]:
        """Keep the value of a step; the future is cancelled if this is no longer the attempt's to say."""
        run = self._run(task)
        if run is None:
            over: Future[None] = Future()
            over.cancel()
            over.set_running_or_notify_cancel()
            return over
        return self.keep_bytes(run, step, self._codec.step(run.record, step, value))

    def keep_bytes(self, run: Run, step: str, data: bytes) -> Future[None]:
        """The same for a value that is bytes already."""
        if len(run.record.steps) >= _MOST_STEPS:
            raise ValidationError(
                f"task {run.record.id} has {_MOST_STEPS:,} steps, and more are not kept; split it into tasks",
                task_id=run.record.id,
            )
        return asyncio.run_coroutine_threadsafe(self._keep(run, step, data), self._loop)

    async def _keep(self, run: Run, step: str, data: bytes) -> None:
        note = Note(id=run.record.id, token=run.record.token or "", step=(step, data))
        pause = _FIRST_PAUSE
        while True:
            try:
                kept = await self._notes.submit(note)
                break
            except (ConnectionError, ResourceExhaustionError) as error:
                if self._run(run.context) is None:
                    raise asyncio.CancelledError from error
                logger.warning("a step of task %s is not kept yet, trying again: %s", run.record.id, error)
                await asyncio.sleep(pause * (0.5 + random.random()))
                pause = min(2 * pause, _LONGEST_PAUSE)
        if not kept:
            run.lose()
            raise asyncio.CancelledError
        run.record.steps = {**run.record.steps, step: data}

    # -- time ----------------------------------------------------------------------------------------------

    def extend(self, task: CurrentTask, seconds: float) -> None:
        """Move the end of an attempt's time."""
        run = self._run(task)
        if run is not None and run.record.timeout is not None:
            self._in_loop(lambda: run.extend(seconds))

    def _run(self, task: CurrentTask) -> Run | None:
        run = self._runs.get(task.id)
        return run if run is not None and run.context is task else None

    def _in_loop(self, call: Callable[[], None]) -> None:
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            call()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the shift is over
                self._loop.call_soon_threadsafe(call)
