"""Inputs: the values of parents that belong into the calls of claimed tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sitq.backends.base import Backend
from sitq.batch import BatchInfo, info_of_batch, is_callback
from sitq.codec import Codec
from sitq.exceptions import BackendError, SerializationError, UnknownKeyError
from sitq.record import Record, State
from sitq.spill import AwayError, NoPlaceError

_MOST: Final = 500
"""About how many parents one read asks for."""

_BATCHES: Final = 1000
"""How many batches are remembered."""


logger = logging.getLogger("sitq.worker")


class InputError(SerializationError):
    """A task cannot run, since the value of a parent cannot be had."""


class Reading:
    """One read of the parents of several tasks; those that come before its end wait for it."""

    __slots__ = ("_waiting", "found", "ids", "over")

    def __init__(self) -> None:
        self.ids: dict[str, None] = {}
        self.found: dict[str, Record | None] | None = None
        self.over = False
        self._waiting: list[asyncio.Future[None]] = []

    async def read(self, backend: Backend) -> None:
        """Read. Where the store does not answer, each task asks for itself, and gets an error of its own."""
        try:
            self.found = dict(zip(self.ids, await backend.get(list(self.ids)), strict=True))
        except Exception as error:  # noqa: BLE001 - as above
            logger.debug("the inputs of several tasks could not be read at once: %s", error)
        finally:
            self.over = True
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def end(self) -> asyncio.Future[None]:
        """What to wait for until the read is over."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter


class Inputs:
    """Reads the parents of a worker's tasks."""

    def __init__(self, backend: Backend, codec: Codec) -> None:
        self._backend = backend
        self._codec = codec
        self._expected: dict[str, Reading] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._batches: dict[str, BatchInfo] = {}

    def expect(self, records: Iterable[Record]) -> None:
        """Begin to read for tasks that are about to start: what they take is there when they ask, or soon."""
        reading = Reading()
        for record in records:
            reading.ids.update(dict.fromkeys(self._unknown(record)))
            self._expected[record.id] = reading
            if len(reading.ids) >= _MOST:
                self._begin(reading)
                reading = Reading()
        if reading.ids:
            self._begin(reading)

    def _begin(self, reading: Reading) -> None:
        task = asyncio.get_running_loop().create_task(reading.read(self._backend))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def at_hand(self, record: Record) -> dict[str, Any] | None:
        """The same as `values`, where the parents were read by now and completed; None if that is not so."""
        reading = self._expected.get(record.id)
        values = None if reading is None else self._found(record, reading)
        if values is not None:
            del self._expected[record.id]
        return values

    def _found(self, record: Record, reading: Reading) -> dict[str, Any] | None:
        """The values of the frequent case: all parents were read, and completed."""
        if reading.found is None or record.batch is not None:
            return None
        values: dict[str, Any] = {}
        for task_id in record.inputs:
            parent = reading.found.get(task_id)
            if parent is None or parent.state is not State.COMPLETED or parent.milestone:
                return None
            try:
                values[task_id] = self._codec.returned(parent)
            except (KeyboardInterrupt, asyncio.CancelledError):
                raise
            except BaseException:  # noqa: BLE001 - the long way says what is wrong
                return None
        return values

    async def values(self, record: Record) -> dict[str, Any]:
        """The values of a task's inputs by id; None for a parent that did not complete.

        The value of a batch is what is known of it. For its members that is read once.

        Raises:
            InputError: A value is gone, or cannot be read; it says whose.
            UnknownKeyError: It is signed with a key that may reach this process later.
            NoPlaceError: It lies in a file, and nobody told this process where.
            BackendError: The store did not answer.
        """
        inputs, values = self._unknown(record), dict[str, Any]()
        reading = self._expected.pop(record.id, None)
        if inputs and reading is not None and not reading.over:
            await reading.end()
            found = self._found(record, reading)
            if found is not None:
                return found
        if len(inputs) < len(record.inputs):
            values[record.batch or ""] = self._batches[record.batch or ""]
        if not inputs:
            return values
        parents = await self._parents(inputs, reading)
        for task_id in inputs:
            parent = parents[task_id]
            if parent is None:
                if task_id != record.batch:
                    raise InputError(
                        f"the value of task {task_id}, which it takes, is gone: the record was deleted",
                        task_id=task_id,
                    )
                values[task_id] = None
            elif parent.state is State.COMPLETED or parent.milestone:
                values[task_id] = await self._value(task_id, parent)
            else:
                values[task_id] = None
        return values

    def _unknown(self, record: Record) -> tuple[str, ...]:
        """The inputs that are to be read: for the members of a batch, it is known after the first of them."""
        if record.batch is None or record.batch not in self._batches or is_callback(record):
            return record.inputs
        return tuple([one for one in record.inputs if one != record.batch])

    async def _value(self, task_id: str, parent: Record) -> Any:
        try:
            if parent.milestone:
                return await self._batch(parent)
            try:
                return self._codec.returned(parent)
            except AwayError as away:
                return self._codec.returned(parent, await self._codec.contents.fetch(away))
        except (BackendError, UnknownKeyError, NoPlaceError, KeyboardInterrupt, asyncio.CancelledError):
            raise
        except SerializationError as error:
            if isinstance(error.cause, ImportError):
                raise
            raise _unreadable(task_id, error) from error
        except BaseException as error:
            raise _unreadable(task_id, error) from error

    async def _batch(self, record: Record) -> BatchInfo:
        if len(self._batches) >= _BATCHES:
            self._batches.clear()
        try:
            call = self._codec.call(record)
        except AwayError as away:
            call = self._codec.call(record, fetched=await self._codec.contents.fetch(away))
        info = self._batches[record.id] = info_of_batch(record, call[2])
        return info

    async def _parents(self, inputs: Sequence[str], reading: Reading | None) -> Mapping[str, Record | None]:
        if reading is not None and reading.found is not None and reading.found.keys() >= set(inputs):
            return reading.found
        return dict(zip(inputs, await self._backend.get(inputs), strict=True))


def _unreadable(task_id: str, error: BaseException) -> InputError:
    return InputError(
        f"the value of task {task_id}, which it takes, cannot be read: {error}", task_id=task_id, cause=error
    )
