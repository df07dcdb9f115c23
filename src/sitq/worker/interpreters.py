"""The interpreters in which a worker runs tasks, where Python has them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent import futures
from typing import Any

from sitq.options import INTERPRETERS
from sitq.worker.not_here import NotHereError
from sitq.worker.run import Run


class Interpreters:
    """A pool of interpreters in this process, made when it is first needed.

    A function there can be stopped as little as one in a thread: it keeps its slot until it returns. What it
    imports must be able to live in several interpreters, which sitq itself is not: it cannot call
    `current_task`, and its module must not import sitq.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pool: futures.Executor | None = None

    async def call(
        self, run: Run, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a plain function in an interpreter of its own; what it returned.

        Raises:
            NotHereError: This Python has none; another worker's may.
            BaseException: What the function raised.
        """
        if self._pool is None:
            self._pool = self._made()
        run.thread = self._pool.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(run.thread)

    def close(self) -> None:
        """Start nothing more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _made(self) -> futures.Executor:
        kind: Any = getattr(futures, "InterpreterPoolExecutor", None)
        if sys.version_info < INTERPRETERS or kind is None:
            needed, found = ".".join(map(str, INTERPRETERS)), ".".join(map(str, sys.version_info[:2]))
            raise NotHereError(f"executor='interpreter' needs Python {needed}, and this is {found}")
        pool: futures.Executor = kind(max_workers=self._limit)
        return pool
