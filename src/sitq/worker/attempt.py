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
from sitq.exceptions import (
    BackendError,
    SerializationError,
    TimeoutError,
    UnknownFunctionError,
    UnknownKeyError,
)
from sitq.policy import outcome as came_to
from sitq.policy.kinds import kinds_of_class
from sitq.record import SECOND, Record
from sitq.signals import Cancel, Retry, Signal, Snooze, Throttled
from sitq.spill import AwayError, LostError, NoPlaceError
from sitq.worker.around import Around, fits
from sitq.worker.elsewhere import Elsewhere, NotHereError, is_async
from sitq.worker.entering import guarded
from sitq.worker.failures import Failures
from sitq.worker.inputs import InputError, Inputs
from sitq.worker.overstay import Watch
from sitq.worker.processes import NoProcessError
from sitq.worker.run import Interruption, Run, is_stepping
from sitq.worker.task_process import ProcessDiedError
from sitq.worker.time_limit import TimeLimit

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_PAUSE: Final = 10 * SECOND
"""Microseconds until a task is looked at again that this worker cannot read and another one may."""

_SHORT_PAUSE: Final = SECOND // 2
"""Microseconds until a task is looked at again whose inputs the store did not give."""

_UNSTORABLE: Final = ("once", "result")
"""What was done when a `SerializationError` was raised after the function had had its effect."""

_LATE: Final = kinds_of_class(TimeoutError)
"""What a policy sees in a time-out."""

logger = logging.getLogger("sitq.worker")


class _TookTooLong(Exception):
    """The task's time-out has passed."""


class Attempts:
    """Runs attempts: coroutines in the event loop, everything else in threads."""

    def __init__(
        self,
        codec: Codec,
        inputs: Inputs,
        threads: Executor,
        failures: Failures,
        elsewhere: Elsewhere | None = None,
        *,
        overstayed: Callable[[Run], None] = lambda _: None,
    ) -> None:
        self._overstayed = overstayed
        self._codec = codec
        self._elsewhere = elsewhere or Elsewhere(threads)
        self._contents = codec.contents
        self._inputs = inputs
        self._threads = threads
        self._failures = failures

    async def outcome(self, run: Run) -> came_to.Outcome:
        """What the attempt comes to.

        Raises:
            UnknownFunctionError: This worker does not know the function; another one may.
            CancelledError: The event loop itself is torn down.
        """
        values: dict[str, Any] | None = None
        if run.record.inputs:
            found = await self._read_inputs(run)
            if not isinstance(found, dict):
                return found
            values = found
            if run.record.batch is not None:
                run.context.batch = found.get(run.record.batch)
        call = self._prepare(run.record, values)
        if not isinstance(call, tuple):
            fetched = await self._fetched(run, values, call)
            if not isinstance(fetched, tuple):
                return fetched
            call = fetched
        variable = context.current.set(run.context)
        try:
            if run.record.timeout is None and run.record.executor is None and is_async(call[0]):
                value = await call[0](*call[1], **call[2])  # the frequent case, without the layers below
            else:
                value = await self._call_in_time(run, call)
        except BaseException as error:  # whatever user code raises ends its attempt and nothing else
            if isinstance(error, GeneratorExit) and not is_stepping(run):
                raise  # the coroutine is thrown away with its event loop
            return self._judge(run, call, error)
        finally:
            context.current.reset(variable)
        outcome = self._encode(run.record, value)
        if self._contents.pending:
            return await self._flushed(run, outcome)
        return outcome

    async def _read_inputs(self, run: Run) -> dict[str, Any] | came_to.Outcome:
        record = run.record
        try:
            found = self._inputs.at_hand(record)
            return await self._inputs.values(record) if found is None else found
        except BackendError as error:
            logger.warning("task %s is handed back, its inputs cannot be read now: %s", record.id, error)
            return came_to.HandedBack(_SHORT_PAUSE)
        except InputError as error:
            return came_to.Unrunnable(self._failures.saying(record, "dependency", str(error)))
        except SerializationError as error:  # keys and modules reach the processes of a fleet one by one
            logger.warning("task %s is handed back: %s", record.id, error)
            return came_to.HandedBack(_PAUSE)
        except BaseException as error:  # it is interrupted
            if isinstance(error, GeneratorExit) and not is_stepping(run):
                raise
            return self._judge(run, None, error)

    async def _fetched(
        self, run: Run, values: dict[str, Any] | None, away: AwayError | came_to.Outcome
    ) -> Call | came_to.Outcome:
        """The call of a task whose arguments lie in a file; any other outcome as it is."""
        if not isinstance(away, AwayError):
            return away
        record = run.record
        try:
            call = self._prepare(record, values, await self._contents.fetch(away))
            assert not isinstance(call, AwayError)  # noqa: S101 - what it asked for was given
            return call
        except BackendError as error:
            logger.warning("task %s is handed back, its arguments cannot be read now: %s", record.id, error)
            return came_to.HandedBack(_PAUSE)
        except UnknownFunctionError:
            raise
        except NoPlaceError as error:
            logger.warning("task %s is handed back: %s", record.id, error)
            return came_to.HandedBack(_PAUSE)
        except LostError as error:
            return came_to.Unrunnable(self._failures.of(record, "unrunnable", error))
        except BaseException as error:  # it is interrupted
            if isinstance(error, GeneratorExit) and not is_stepping(run):
                raise
            return self._judge(run, None, error)

    async def _flushed(self, run: Run, outcome: came_to.Outcome) -> came_to.Outcome:
        """The outcome once its result is in its file."""
        try:
            await self._contents.flush([run.record.id])
        except BackendError as error:
            return came_to.Unstorable(self._failures.of(run.record, "unstorable", error))
        except BaseException as error:  # it is interrupted
            if isinstance(error, GeneratorExit) and not is_stepping(run):
                raise
            return self._judge(run, None, error)
        return outcome

    def _prepare(
        self, record: Record, values: dict[str, Any] | None, fetched: bytes | None = None
    ) -> Call | AwayError | came_to.Unrunnable | came_to.HandedBack:
        try:
            return self._codec.call(record, values, fetched)
        except UnknownFunctionError:
            raise
        except AwayError as away:
            return away
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
            return await self.call(run, call)
        # In a process its time begins when the process has begun.
        away = run.record.executor == "process"
        limit = run.limit = TimeLimit(None if away else run.record.timeout / SECOND, run.tell_late)
        watch = Watch(run, limit, self._overstayed)
        try:
            value = await self.call(run, call)
        except GeneratorExit:
            raise
        except BaseException as error:
            torn_down = isinstance(error, asyncio.CancelledError) and not limit.alone and not run.interruption
            if not limit.expired or torn_down:
                raise
            raise _TookTooLong(run.late) from error
        finally:
            watch.end()
            limit.end()
        if limit.expired:  # it went on, and a process would have been killed
            raise _TookTooLong(run.late)
        return value

    async def call(self, run: Run, call: Call) -> Any:
        """Call a function where it belongs."""
        function, args, kwargs = call
        if isinstance(function, Around):
            return await function.attempt(run, args, kwargs, self)
        if run.record.executor is not None:
            return await self._elsewhere.call(run, function, args, kwargs)
        if is_async(function):
            return await function(*args, **kwargs)
        around = contextvars.copy_context()
        run.thread = self._threads.submit(around.run, guarded, function, args, kwargs)
        value = await asyncio.wrap_future(run.thread)
        return await value if inspect.isawaitable(value) else value

    def takes_thread(self, run: Run, function: Callable[..., Any]) -> bool:
        """Whether a function is called in a thread of this process."""
        return run.record.executor in {None, "thread"} and not is_async(function)

    async def in_thread(self, run: Run, around: contextvars.Context, call: Callable[[], Any]) -> Any:
        """Call something in a thread, which counts as the run's until it has ended."""
        run.thread = self._threads.submit(around.run, guarded, call)
        return await asyncio.wrap_future(run.thread)

    def _encode(self, record: Record, value: Any) -> came_to.Outcome:
        try:
            return came_to.Returned(self._codec.result(record, value))
        except BaseException as error:  # noqa: BLE001 - whatever the value does when it is serialized
            return came_to.Unstorable(self._failures.of(record, "unstorable", error))

    def _judge(self, run: Run, call: Call | None, error: BaseException) -> came_to.Outcome:
        if isinstance(error, NotHereError):
            raise error
        try:
            return self._verdict(run, call, error)
        except Exception:  # noqa: BLE001 - a signal or a signature that user code tampered with
            return self._failures.raised(run.record, error)

    def cut_short(self, run: Run) -> came_to.Outcome:
        """What an attempt comes to that does not end though it was told to."""
        if run.interruption is Interruption.STOP:
            return came_to.Cancelled(
                self._failures.saying(run.record, "cancelled", run.reason or "cancelled")
            )
        run.tell(run.late)
        return came_to.Raised(self._failures.saying(run.record, "timeout", run.late, "TimeoutError"), _LATE)

    def _verdict(self, run: Run, call: Call | None, error: BaseException) -> came_to.Outcome:
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
                return came_to.Raised(failures.saying(record, "timeout", str(error), "TimeoutError"), _LATE)
            case SerializationError() | ProcessDiedError() | NoProcessError():
                return self._not_its_own(run, error)
            case TypeError() if call is not None and not _fits(run, error, *call):
                return came_to.Unrunnable(failures.of(record, "unrunnable", error))
            case _:
                return failures.raised(record, error, run.raised_elsewhere(error))

    def _not_its_own(
        self, run: Run, error: SerializationError | ProcessDiedError | NoProcessError
    ) -> came_to.Outcome:
        """What an error means that may be the engine's, and not the function's."""
        record, failures = run.record, self._failures
        match error:
            case ProcessDiedError():
                return came_to.Crashed(failures.saying(record, "crashed", str(error)))
            case NoProcessError():
                return came_to.HandedBack(_PAUSE if error.broken else 0)
            case _ if error.operation in _UNSTORABLE:
                return came_to.Unstorable(failures.of(record, "unstorable", error))
            case _ if error.operation == "process":
                return came_to.Unrunnable(failures.of(record, "unrunnable", error))
            case _:
                return failures.raised(record, error, run.raised_elsewhere(error))

    def _signalled(self, record: Record, signal: Signal) -> came_to.Outcome:
        match signal:
            case Retry():
                delay = None if signal.after is None else round(signal.after * SECOND)
                return came_to.AskedRetry(delay, self._failures.saying(record, "raised", str(signal)))
            case Snooze():
                return came_to.Snoozed(round(signal.seconds * SECOND))
            case Throttled():
                key = signal.key or (record.limits[0].key if record.limits else None)
                return came_to.Throttled(round(signal.retry_after * SECOND), key)
            case Cancel():
                return came_to.Cancelled(self._failures.saying(record, "cancelled", str(signal)))
            case _:
                return self._failures.raised(record, signal)


def _is_torn_down() -> bool:
    """Whether this very asyncio task is cancelled, and not something that the user's code awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fits(
    run: Run, error: TypeError, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    if isinstance(function, Around):  # a middleware may have changed the arguments
        return getattr(run, "unfit", None) is not error
    return fits(function, args, kwargs)
