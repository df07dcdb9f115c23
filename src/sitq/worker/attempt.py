"""One run of one task: resolve, decode, call, encode.

What goes wrong on the way is an outcome, not an error.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from sitq import context
from sitq.codec import Codec
from sitq.exceptions import SerializationError, UnknownFunctionError, UnknownKeyError
from sitq.policy import outcome as came_to
from sitq.record import SECOND, Record
from sitq.signals import Cancel, Retry, Signal, Snooze, Throttled
from sitq.worker.failures import Failures
from sitq.worker.run import Interruption, Run

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_PAUSE: Final = 10 * SECOND
"""Microseconds until a task is looked at again that this worker cannot read and another one may."""

logger = logging.getLogger("sitq.worker")


class _TookTooLong(Exception):
    """The task's time-out has passed."""


class Attempts:
    """Runs attempts: coroutines in the event loop, everything else in threads."""

    def __init__(self, codec: Codec, threads: Executor, failures: Failures) -> None:
        self._codec = codec
        self._threads = threads
        self._failures = failures

    async def outcome(self, run: Run) -> came_to.Outcome:
        """What the attempt comes to.

        Raises:
            UnknownFunctionError: This worker does not know the function; another one may.
            CancelledError: The event loop itself is torn down.
        """
        call = self._prepare(run.record)
        if not isinstance(call, tuple):
            return call
        variable = context.current.set(run.context)
        try:
            if run.record.timeout is None and _is_async(call[0]):
                value = await call[0](*call[1], **call[2])  # the frequent case, without the layers below
            else:
                value = await self._call_in_time(run, call)
        except BaseException as error:  # whatever user code raises ends its attempt and nothing else
            if isinstance(error, GeneratorExit) and not is_stepping(run):
                raise  # the coroutine is thrown away with its event loop
            return self._judge(run, call, error)
        finally:
            context.current.reset(variable)
        return self._encode(run.record, value)

    def _prepare(self, record: Record) -> Call | came_to.Unrunnable | came_to.HandedBack:
        try:
            return self._codec.call(record)
        except UnknownFunctionError:
            raise
        except UnknownKeyError as error:
            # Keys reach the processes of a fleet one after another: another worker, or this one when it was
            # started anew, will know it.
            logger.warning("task %s is handed back: %s", record.id, error)
            return came_to.HandedBack(_PAUSE)
        except SerializationError as error:
            if not isinstance(error.cause, ImportError):
                return came_to.Unrunnable(self._failures.of(record, "unrunnable", error))
            # What it was pickled with is not installed or not importable here; elsewhere it may be.
            logger.warning("task %s is handed back: %s", record.id, error)
            return came_to.HandedBack(_PAUSE)
        except BaseException as error:  # noqa: BLE001 - whatever a stored payload does, the worker lives on
            return came_to.Unrunnable(self._failures.of(record, "unrunnable", error))

    async def _call_in_time(self, run: Run, call: Call) -> Any:
        if run.record.timeout is None:
            return await self._call(run, call)
        timer = asyncio.timeout(run.record.timeout / SECOND)
        try:
            async with timer:
                return await self._call(run, call)
        except TimeoutError as error:
            if timer.expired():
                run.context.cancelled = True
                raise _TookTooLong from error
            raise

    async def _call(self, run: Run, call: Call) -> Any:
        function, args, kwargs = call
        if _is_async(function):
            return await function(*args, **kwargs)
        around = contextvars.copy_context()
        run.thread = self._threads.submit(around.run, _in_thread, function, args, kwargs)
        value = await asyncio.wrap_future(run.thread)
        return await value if inspect.isawaitable(value) else value

    def _encode(self, record: Record, value: Any) -> came_to.Outcome:
        try:
            return came_to.Returned(self._codec.result(record, value))
        except BaseException as error:  # noqa: BLE001 - whatever the value does when it is serialized
            return came_to.Unstorable(self._failures.of(record, "unstorable", error))

    def _judge(self, run: Run, call: Call, error: BaseException) -> came_to.Outcome:
        try:
            return self._verdict(run, call, error)
        except Exception:  # noqa: BLE001 - a signal or a signature that user code tampered with
            return came_to.Raised(self._failures.of(run.record, "raised", error))

    def _verdict(self, run: Run, call: Call, error: BaseException) -> came_to.Outcome:
        record, failures = run.record, self._failures
        match error:
            case asyncio.CancelledError() if run.interruption is Interruption.STOP:
                return came_to.Cancelled(failures.saying(record, "cancelled", run.reason or "cancelled"))
            case asyncio.CancelledError() if run.interruption is not None:
                return came_to.HandedBack()
            case asyncio.CancelledError() if _is_torn_down():
                raise error
            case Signal():
                return self._signalled(record, error)
            case _TookTooLong():
                limit = (record.timeout or 0) / SECOND
                message = f"it took longer than its time-out of {limit:g} s"
                return came_to.Raised(failures.saying(record, "timeout", message))
            case TypeError() if not _fits(*call):
                return came_to.Unrunnable(failures.of(record, "unrunnable", error))
            case _:
                return came_to.Raised(failures.of(record, "raised", error))

    def _signalled(self, record: Record, signal: Signal) -> came_to.Outcome:
        match signal:
            case Retry():
                delay = None if signal.after is None else round(signal.after * SECOND)
                return came_to.AskedRetry(delay, self._failures.saying(record, "raised", str(signal)))
            case Snooze():
                return came_to.Snoozed(round(signal.seconds * SECOND))
            case Throttled():
                key = record.limits[0].key if record.limits else None
                return came_to.Throttled(round(signal.retry_after * SECOND), key)
            case Cancel():
                return came_to.Cancelled(self._failures.saying(record, "cancelled", str(signal)))
            case _:
                return came_to.Raised(self._failures.of(record, "raised", signal))


def _is_async(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _in_thread(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except (StopIteration, GeneratorExit) as error:
        # A future cannot carry them: in Python 3.11 the one wakes nobody, the other closes who waits for it.
        raise RuntimeError(f"the function raised {type(error).__name__}") from error


def _is_torn_down() -> bool:
    """Whether this very asyncio task is cancelled, and not something that the user's code awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_stepping(run: Run) -> bool:
    """Whether it is the event loop that runs the attempt right now."""
    try:
        return asyncio.current_task() is run.task
    except RuntimeError:
        return False


def _fits(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in without a signature
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
