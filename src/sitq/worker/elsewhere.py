"""Where a function runs that names its executor."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

from sitq.worker.entering import guarded
from sitq.worker.interpreters import Interpreters
from sitq.worker.not_here import NotHereError
from sitq.worker.processes import Processes
from sitq.worker.run import Run

__all__ = ["Elsewhere", "NotHereError", "is_async"]


class Elsewhere:
    """Calls functions by the executor that their task names."""

    def __init__(
        self,
        threads: Executor,
        processes: Processes | None = None,
        interpreters: Interpreters | None = None,
    ) -> None:
        self._threads = threads
        self._processes = processes
        self._interpreters = interpreters

    async def call(
        self, run: Run, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What the function returned.

        Raises:
            NotHereError: This worker has no such executor; another one may.
            BaseException: What the function raised.
        """
        match run.record.executor:
            case "process" if self._processes is not None:
                return await self._processes.call(run, function, args, kwargs)
            case "interpreter" if self._interpreters is not None:
                return await self._interpreters.call(run, function, args, kwargs)
            case "thread":
                around = contextvars.copy_context()
                run.thread = self._threads.submit(around.run, guarded, _to_its_end, (function, args, kwargs))
                return await asyncio.wrap_future(run.thread)
            case "async":
                value = function(*args, **kwargs)
                return await value if inspect.isawaitable(value) else value
            case other:
                raise NotHereError(f"this worker has no executor {other!r}")


def _to_its_end(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function in a thread; an async one in an event loop of its own there."""
    value = function(*args, **kwargs)
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a function is called in the event loop."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
