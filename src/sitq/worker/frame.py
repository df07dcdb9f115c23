"""What frames a worker's work: an async context manager of the user's."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from sitq.exceptions import LifespanError, describe
from sitq.lifespan import Lifespan, managed
from sitq.worker.scope import NO_STATE

if TYPE_CHECKING:
    from sitq.worker.worker import Worker


class Frame:
    """One run of a lifespan: entered before the first claim, left after the last task."""

    def __init__(self, lifespan: Lifespan | None, worker: Worker) -> None:
        self._lifespan = lifespan
        self._worker = worker
        self._manager: AbstractAsyncContextManager[Any] | None = None
        self._starting: asyncio.Timeout | None = None
        self.given_up = False
        """Whether the worker was stopped before its lifespan had begun."""

    async def enter(self) -> Any:
        """The state that it yields; without meaning if it was given up.

        Raises:
            LifespanError: It failed.
        """
        if self._lifespan is None:
            return NO_STATE
        self._starting = asyncio.timeout(None)
        try:
            async with self._starting:
                manager = managed(self._lifespan)(self._worker)
                state = await manager.__aenter__()
        except Exception as error:
            if self.given_up and self._starting.expired():
                return NO_STATE
            message = f"the lifespan failed at the start of the worker: {describe(error)}"
            raise LifespanError(message, operation="start") from error
        finally:
            self._starting = None
        self._manager = manager
        return state

    def give_up(self) -> None:
        """The worker is stopped: a lifespan that still begins is cancelled."""
        if self._starting is not None:
            self.given_up = True
            self._starting.reschedule(0)

    async def leave(self, error: BaseException | None) -> None:
        """Let it clean up, and see what ended the work, if that was an error.

        Raises:
            LifespanError: It failed.
        """
        manager, self._manager = self._manager, None
        if manager is None:
            return
        try:
            await manager.__aexit__(
                None if error is None else type(error), error, None if error is None else error.__traceback__
            )
        except Exception as later:
            if later is error:
                return
            message = f"the lifespan failed at the end of the worker: {describe(later)}"
            raise LifespanError(message, operation="stop") from later
