"""The inside of a process for tasks: it runs one after another, and ends with its worker."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import importlib
import inspect
import itertools
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

import msgspec

from sitq import context, functions
from sitq.context import CurrentTask
from sitq.exceptions import SerializationError, WorkerError, describe
from sitq.policy.kinds import kinds_of
from sitq.record import Record
from sitq.serialization import CloudpickleSerializer
from sitq.worker.entering import guarded
from sitq.worker.failures import Failures
from sitq.worker.line import Line

_PR_SET_PDEATHSIG: Final = 1
_PICKLE: Final = CloudpickleSerializer()


def main(descriptor: int, parent: int) -> None:
    """Run the tasks that the worker sends, in this thread, until the worker is gone."""
    _die_with(parent)
    _Inside(Line(socket.socket(fileno=descriptor))).work()


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its worker: code may hold the interpreter's lock for long."""
    if sys.platform == "linux":
        with contextlib.suppress(Exception):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


class _Job(NamedTuple):
    """One attempt: what it is, and the call."""

    id: str
    name: str
    queue: str
    attempt: int
    last_start: int | None
    worker: str
    module: str
    function: bytes
    call: bytes


class _Inside:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._jobs: queue.SimpleQueue[tuple[_Job, CurrentTask] | None] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._answers: dict[int, Future[tuple[str, bytes]]] = {}
        self._current: CurrentTask | None = None
        self._step: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._runner = asyncio.Runner()

    def work(self) -> None:
        threading.Thread(target=self._listen, name="sitq-line", daemon=True).start()
        while (next_one := self._jobs.get()) is not None:
            job, task = next_one
            ended = self._attempt(job, task)
            self._current = None
            if not self._line.say("ended", *ended):
                os._exit(1)
        self._runner.close()

    # -- the worker's words --------------------------------------------------------------------------------

    def _listen(self) -> None:
        for word, *about in self._line.heard():
            match word:
                case "task":
                    job = _Job(*about)
                    desk = _Desk(self._ask, self._line)
                    task = CurrentTask(job.id, job.name, job.queue, job.attempt, job.last_start, desk)
                    self._current = task
                    self._line.say("begun")
                    self._jobs.put((job, task))
                case "cancel":
                    self._cancel(str(about[0]))
                case "answer":
                    number, what, data = about
                    self._answers.pop(number).set_result((what, data))
                case _:
                    pass
        if self._current is not None:  # the worker is gone, and with it the right to run this task
            with contextlib.suppress(OSError):
                os.killpg(os.getpgrp(), signal.SIGKILL)
            os._exit(1)
        self._jobs.put(None)

    def _cancel(self, reason: str) -> None:
        task, step = self._current, self._step
        if task is not None and task.cancel_reason is None:
            task.cancel_reason = reason
            if step is not None:
                loop, running = step
                loop.call_soon_threadsafe(running.cancel, reason)

    def _ask(self, *question: Any) -> Future[tuple[str, bytes]]:
        number = next(self._numbers)
        answer: Future[tuple[str, bytes]] = Future()
        self._answers[number] = answer
        self._line.say("ask", number, *question)
        return answer

    # -- an attempt ----------------------------------------------------------------------------------------

    def _attempt(self, job: _Job, task: CurrentTask) -> tuple[str, Any]:
        variable = context.current.set(task)
        try:
            function, args, kwargs, *batch = _load(job)
            if batch:
                task.batch = batch[0]
            value = self._call(function, args, kwargs, task)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            return "raised", _told(job, error)
        finally:
            context.current.reset(variable)
        try:
            return "returned", _PICKLE.dumps(value)
        except BaseException as error:  # noqa: BLE001 - whatever the value does when it is serialized
            return "unstorable", str(error)

    def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], task: CurrentTask
    ) -> Any:
        value = guarded(function, args, kwargs)
        if inspect.isawaitable(value):
            # In a context of its own: the runner would use that of its first run for all.
            error, value = self._runner.run(self._await(value, task), context=contextvars.copy_context())
            if error is not None:
                raise error
        return value

    async def _await(self, value: Awaitable[Any], task: CurrentTask) -> tuple[BaseException | None, Any]:
        # What it raises is caught in here, so that its traceback does not tell of the event loop.
        running = asyncio.current_task()
        if running is not None:
            self._step = asyncio.get_running_loop(), running
            if task.cancel_reason is not None:
                running.cancel(task.cancel_reason)
        try:
            return None, await value
        except BaseException as error:  # noqa: BLE001 - it is raised again outside
            return error, None
        finally:
            self._step = None


def _load(job: _Job) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], *tuple[Any, ...]]:
    """The function, its arguments, and the batch that the task is of, if it is of one."""
    if job.module:
        try:
            importlib.import_module(job.module)
        except ImportError as error:
            raise WorkerError(
                f"a process of this worker cannot import {job.module}, where {job.name} is: {error}; install "
                f"the module, or start the worker with its folder on PYTHONPATH",
                task_id=job.id,
            ) from error
        function = functions.plain(functions.resolve(job.function.decode(), registered_only=False))
    else:
        function = _PICKLE.loads(job.function)
    return function, *_PICKLE.loads(job.call)


def _told(job: _Job, error: BaseException) -> list[Any]:
    """An exception as data, and pickled, if it can be."""
    record = Record(id=job.id, attempt=job.attempt)
    failure = Failures(job.worker, lambda: 0).of(record, "raised", error)
    try:
        pickled = _PICKLE.dumps(error)
    except SerializationError:
        pickled = b""
    return [msgspec.to_builtins(failure), list(kinds_of(error)), pickled]


class _Desk:
    """What a task says goes to the worker, over the line."""

    def __init__(self, ask: Callable[..., Future[tuple[str, bytes]]], line: Line) -> None:
        self._ask = ask
        self._line = line

    def progress(self, _: CurrentTask, fraction: float | None, message: str, /) -> None:
        self._line.say("progress", fraction, message)

    def extend(self, _: CurrentTask, seconds: float, /) -> None:
        self._line.say("extend", seconds)

    def done(self, _: CurrentTask, step: str) -> tuple[Any] | None:
        what, data = self._ask("done", step, b"").result()
        if what == "error":
            raise _PICKLE.loads(data)
        return None if what == "unknown" else (_PICKLE.loads(data),)

    def keep(self, task: CurrentTask, step: str, value: Any) -> Future[None]:
        try:
            data = _PICKLE.dumps(value)
        except SerializationError as error:
            message = f"what step {step} returned cannot be kept: {describe(error)}"
            raise SerializationError(message, task_id=task.id, operation="once", cause=error) from error
        kept: Future[None] = Future()
        self._ask("keep", step, data).add_done_callback(lambda answer: _pass_on(answer.result(), kept))
        return kept


def _pass_on(answer: tuple[str, bytes], kept: Future[None]) -> None:
    what, data = answer
    match what:
        case "kept":
            kept.set_result(None)
        case "lost":
            kept.cancel()
            kept.set_running_or_notify_cancel()
        case _:
            kept.set_exception(_PICKLE.loads(data))
