"""The queue: where tasks go in and results come out."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self

from sitq import validation
from sitq.backends import open_backend
from sitq.backends.base import Backend
from sitq.codec import Codec
from sitq.core import Result, Task
from sitq.exceptions import TaskQueueError, TimeoutError, ValidationError
from sitq.ids import new_id
from sitq.keys import KeyRing
from sitq.move import Cancel
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.record import Record
from sitq.serialization import Serializer
from sitq.session import Session

_LARGEST_GROUP = 100_000
"""How many tasks `enqueue_many` takes at once: more would keep other writers from the store for too long."""


_LONGEST_REASON = 1_000
_OPTION_NAMES = frozenset(Options.__struct_fields__)


class TaskQueue:
    """Puts tasks into a store and reads what became of them.

    Args:
        backend: The store, or a URL such as `sqlite:///tasks.db` that opens one.
        serializer: Turns arguments into bytes; `CloudpickleSerializer` by default.
        queue: The named queue that tasks wait in unless their options say otherwise.
        keys: Sign what is stored; by default those in `SITQ_SECRET_KEYS`, if it is set.
        trust_store: Load code from a store that others can write to although it is not signed.

    It connects on first use if nobody did, and may be used from several event loops. After `close` it
    cannot be used any more.

    Raises:
        ValidationError: `backend` is neither a backend nor a URL.
    """

    def __init__(
        self,
        backend: Backend | str,
        serializer: Serializer | None = None,
        *,
        queue: str = "default",
        keys: KeyRing | None = None,
        trust_store: bool = False,
    ) -> None:
        self.backend: Backend = open_backend(backend)
        self.queue = validation.name(queue)
        self._serializer = None if serializer is None else validation.serializer(serializer)
        self._keys = keys
        self._trust_store = trust_store
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Session] = (
            weakref.WeakKeyDictionary()
        )
        self._acquired = 0
        self._closed = False

    # -- lifecycle -----------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect the store if nobody did. Idempotent; not needed, as the first use does it."""
        await self._session()

    async def close(self) -> None:
        """Let go of the store, which is closed if this queue was the last to use it and had connected it.

        Idempotent.
        """
        self._closed = True
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
        while self._acquired:
            self._acquired -= 1
            await self.backend.release()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- enqueue -------------------------------------------------------------------------------------------

    async def enqueue(
        self, function: Callable[..., Any], /, *args: Any, eta: datetime | None = None, **kwargs: Any
    ) -> str:
        """Enqueue one call and return its id once the store has it.

        `eta` is the one keyword that does not go to the function; `options(eta=…)` leaves it to it. A caller
        that is cancelled while waiting does not know whether the task was stored.

        Args:
            function: What to run.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            eta: The aware datetime before which it does not start.

        Raises:
            ValidationError: The function cannot be called, or `eta` has no time zone.
            SerializationError: An argument cannot be serialized (it is named), or all are too large.
            ResourceExhaustionError: The store is full.
            BackendError: The store failed.
        """
        if not _OPTION_NAMES.isdisjoint(kwargs):
            _check_keywords(function, args, kwargs)
        options = NO_OPTIONS if eta is None else make_options(NO_OPTIONS, {"eta": eta})
        return await self.enqueue_call(function, args, kwargs, options)

    def options(self, **options: Any) -> Enqueuer:
        """The queue with options for what is enqueued through it: `queue.options(priority=5).enqueue(f)`.

        Raises:
            ValidationError: An option is unknown (the nearest one is named) or not acceptable.
        """
        return Enqueuer(self, make_options(NO_OPTIONS, options))

    async def enqueue_many(self, tasks: Iterable[Task]) -> list[str]:
        """Enqueue tasks, all or none of them, and return their ids in order.

        Raises:
            ValidationError: An item is no `Task`, or there are more than 100,000.
            SerializationError: An argument of one of them cannot be serialized.
        """
        if not isinstance(tasks, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"enqueue_many takes a list of tasks, not {type(tasks).__name__}; write [task]"
            )
        group = list(islice(tasks, _LARGEST_GROUP + 1))
        if len(group) > _LARGEST_GROUP:
            raise ValidationError(f"enqueue_many takes at most {_LARGEST_GROUP:,} tasks at once; split them")
        session = await self._session()
        records = [self._record(session, task) for task in group]
        return await session.put(records) if records else []

    async def enqueue_call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> str:
        """Enqueue one call that is given as data. See `enqueue`."""
        session = await self._session()
        record = session.codec.record(
            options.id or new_id(),
            validation.function(function),
            args,
            kwargs,
            options,
            queue=self.queue,
            reply=session.waiter.topic,
        )
        (stored_id,) = await session.put([record])
        return stored_id

    def _record(self, session: Session, task: Task) -> Record:
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"enqueue_many takes Task objects, not {type(task).__name__}; write Task(function, args)"
            )
        return session.codec.record(
            task.id,
            task.function,
            task.args,
            task.kwargs,
            task.options,
            queue=self.queue,
            reply=session.waiter.topic,
        )

    # -- results -------------------------------------------------------------------------------------------

    async def get_result(
        self,
        task_id: str,
        timeout: float | None = None,
        *,
        raise_on_timeout: bool = False,
    ) -> Result | None:
        """Wait until a task has ended and return what became of it.

        `None` at once for an unknown task (or one whose record has been purged), and `None` when `timeout`
        seconds have passed.

        Raises:
            TimeoutError: The time has passed and `raise_on_timeout` is set.
            SignatureError: The stored result is not what a worker stored.
        """
        session = await self._session()
        seconds = validation.timeout(timeout)
        task_id = validation.task_id(task_id)
        try:
            record = await session.waiter.wait(task_id, seconds)
        except builtins.TimeoutError as error:
            if not raise_on_timeout:
                return None
            message = f"task {task_id} has not ended within {seconds:g} s; it may still do so"
            raise TimeoutError(message, task_id=task_id, operation="get_result") from error
        return None if record is None else session.result(record)

    async def get_results(self, task_ids: Sequence[str]) -> list[Result | None]:
        """What is known of tasks now: `None` of an unknown one, `pending` for one that has not ended."""
        if isinstance(task_ids, str):
            raise ValidationError(f"get_results takes a list of task ids, not the text {task_ids!r}")
        session = await self._session()
        records = await self.backend.get([validation.task_id(each) for each in task_ids])
        return [None if record is None else session.result(record) for record in records]

    def deserialize_result(self, result: Result) -> Any:
        """The value that the task returned.

        Raises:
            ValidationError: The task did not succeed, so there is no value; the message says why.
            SerializationError: The bytes cannot be read here.
        """
        if not isinstance(result, Result):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"deserialize_result takes the Result of a task, not {type(result).__name__}; "
                f"get_result answers None for an unknown task and when its time is over"
            )
        if result.status != "success" or result.value is None:
            why = f": {result.error}" if result.error else ""
            raise ValidationError(
                f"task {result.task_id} has no value, its status is {result.status}{why}",
                task_id=result.task_id,
            )
        return self._codec().serializer_named(result.codec).loads(result.value)

    # -- control -------------------------------------------------------------------------------------------

    async def cancel(self, task_id: str, reason: str = "") -> bool:
        """Cancel a waiting task, or ask a running one to stop. False if it has ended or is unknown.

        Raises:
            ValidationError: `reason` is no text, or one of more than 1,000 characters.
        """
        move = Cancel(id=validation.task_id(task_id), reason=_reason(reason))
        await self._session()
        (kept,) = await self.backend.apply([move])
        return kept

    async def stats(self) -> dict[str, dict[str, int]]:
        """How many tasks there are per queue and state."""
        await self._session()
        tally = await self.backend.tally()
        return {queue: {str(state): n for state, n in states.items()} for queue, states in tally.items()}

    # -- the session of an event loop ----------------------------------------------------------------------

    async def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or self._closed:
            self._check_open()
            await self.backend.acquire()  # each of several first calls counts, so that none is early
            if self._closed:
                await self.backend.release()
                self._check_open()
            self._acquired += 1
            session = self._sessions.get(loop)
            if session is None:
                session = self._sessions[loop] = Session(self.backend, self._codec())
        return session

    def _check_open(self) -> None:
        if self._closed:
            raise TaskQueueError("this queue is closed; make a new TaskQueue", operation="connect")

    def _codec(self) -> Codec:
        return Codec.of(self.backend, self._serializer, self._keys, trust_store=self._trust_store)

    def __repr__(self) -> str:
        return f"<TaskQueue {self.queue!r} on {self.backend!r}>"


def _check_keywords(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse an option among the keywords that the function itself does not take."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        options = ", ".join(f"{name}=…" for name in kwargs if name in _OPTION_NAMES)
        label = getattr(function, "__qualname__", type(function).__qualname__)
        raise ValidationError(
            f"{label}() cannot be called like that: {error}; "
            f"did you mean queue.options({options}).enqueue({label}, …)?"
        ) from error
    except ValueError:  # a built-in without a signature
        return


def _reason(text: str) -> str:
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"reason must be text, not {type(text).__name__}")
    if len(text) > _LONGEST_REASON:
        raise ValidationError(f"reason has {len(text):,} characters; at most {_LONGEST_REASON:,} are kept")
    return text.encode("utf-8", "backslashreplace").decode()


class Enqueuer:
    """A queue with options for the tasks that are enqueued through it."""

    def __init__(self, queue: TaskQueue, options: Options) -> None:
        self._queue = queue
        self._options = options

    def options(self, **options: Any) -> Enqueuer:
        """The same with more options."""
        return Enqueuer(self._queue, make_options(self._options, options))

    async def enqueue(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> str:
        """Enqueue one call with these options.

        Every keyword goes to the function. See `TaskQueue.enqueue`.
        """
        return await self._queue.enqueue_call(function, args, kwargs, self._options)
