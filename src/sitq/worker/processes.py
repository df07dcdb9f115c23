"""The processes in which a worker runs tasks that are to be killed, or that need a core of their own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from sitq.exceptions import SerializationError
from sitq.serialization import CloudpickleSerializer, dumps_call
from sitq.worker.not_here import NotHereError
from sitq.worker.run import Run
from sitq.worker.task_process import NeverBegunError, TaskProcess

_TRIES: Final = 3
"""How many processes may die before a task is handed back that none of them has begun."""

_GOODBYE: Final = 0.5
"""Seconds that idle processes get to end by themselves."""

_PICKLE: Final = CloudpickleSerializer()

logger = logging.getLogger("sitq.worker")


class NoProcessError(Exception):
    """There is no process for a task now; another worker may have one.

    Attributes:
        broken: Whether none can be started.
    """

    def __init__(self, message: str, *, broken: bool = False) -> None:
        super().__init__(message)
        self.broken = broken


class Processes:
    """Starts processes as they are needed, up to a limit, and uses them again.

    Attributes:
        names: The functions that run in processes, as far as they are known.
    """

    def __init__(self, limit: int, worker: str) -> None:
        self._limit = limit
        self._granted: set[Run] = set()
        self.names: set[str] = set()
        self._worker = worker
        self._idle: list[TaskProcess] = []
        self._used: set[TaskProcess] = set()

    @property
    def free(self) -> int:
        """How many tasks could begin now."""
        return self._limit - len(self._granted)

    def reserve(self, run: Run) -> None:
        """Reserve a process for a run that is about to start, if it wants one and there is one."""
        if run.record.executor == "process":
            self.names.add(run.record.name)
            if self.free > 0:
                self._granted.add(run)

    def release(self, run: Run) -> None:
        """Give back what was reserved for a run."""
        self._granted.discard(run)

    async def call(
        self, run: Run, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a function in a process; what it returned.

        Raises:
            NotHereError: This platform has no such processes.
            NoProcessError: All are busy, or none can be started.
            SerializationError: The call cannot be brought over.
            ProcessDiedError: The process died.
            BaseException: What the function raised.
        """
        desk = run.context.desk
        if os.name != "posix" or desk is None:
            raise NotHereError("executor='process' works on POSIX systems only")
        if run not in self._granted:
            raise NoProcessError("all processes are busy")
        job = self._job(run, function, args, kwargs)
        for _ in range(_TRIES):
            process = self._take()
            try:
                return await process.call(job, run, desk)
            except NeverBegunError as error:
                logger.warning("a process for tasks died before it began: %s", error)
            finally:
                self._put_back(process)
        raise NoProcessError(f"{_TRIES} processes died before they began", broken=True)

    async def close(self) -> None:
        """End all of them."""
        every = [*self._idle, *self._used]
        if every:
            await asyncio.gather(*(process.close(_GOODBYE) for process in every))
        self._idle.clear()
        self._used.clear()

    def kill(self) -> None:
        """End those that are left, at once."""
        for process in (*self._idle, *self._used):
            process.kill()
        self._idle.clear()
        self._used.clear()

    def _take(self) -> TaskProcess:
        while self._idle:
            process = self._idle.pop()
            if process.usable:
                break
        else:
            process = TaskProcess.start()
        self._used.add(process)
        return process

    def _put_back(self, process: TaskProcess) -> None:
        self._used.discard(process)
        if process.usable:
            self._idle.append(process)
        else:
            process.kill()

    def _job(
        self, run: Run, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...]:
        record = run.record
        module = str(getattr(function, "__module__", None) or "__main__")
        by_name = record.python is None and module != "__main__"
        try:
            carried = record.name.encode() if by_name else _PICKLE.dumps(function)
            batch = run.context.batch
            call = _PICKLE.dumps((args, kwargs) if batch is None else (args, kwargs, batch))
        except SerializationError as error:
            raise SerializationError(
                f"the call cannot be brought into a process: {_named(error, function, args, kwargs)}; what a "
                f"function takes there, and what providers make for it, must be possible to pickle",
                operation="process",
                cause=error,
            ) from error
        task = record.id, record.name, record.queue, record.attempt, record.deadline
        return *task, self._worker, module if by_name else "", carried, call


def _named(
    error: SerializationError, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> SerializationError:
    """The error that names the argument that is at fault, if one is."""
    try:
        dumps_call(_PICKLE, args, kwargs, target=function)
    except SerializationError as named:
        return named
    return error
