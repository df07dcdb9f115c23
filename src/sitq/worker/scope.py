"""What lives as long as a worker works: the state of its lifespan, and what its providers made for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, Final

from sitq.exceptions import WorkerError
from sitq.provision import Need, Provider
from sitq.worker.entering import Entered, InThread, enter, guarded

NO_STATE: Final[Any] = object()
"""The state of a worker without a lifespan."""

_PATIENCE: Final = 2.0
"""Seconds that the clean-up behind a thread gets which goes on after its attempt."""

logger = logging.getLogger("sitq.worker")


class WorkerScope:
    """Makes each value once, when an attempt first needs it, and gives all back at the end.

    A value outlives the attempt that asked first, and knows nothing of it.

    Args:
        state: What the lifespan yielded.
    """

    def __init__(self, state: Any = NO_STATE) -> None:
        self.state = state
        self._context = copy_context()
        self._held: dict[object, _Held] = {}
        self._behind: set[asyncio.Task[None]] = set()

    def state_for(self, need: Need) -> Any:
        """What a parameter wants of the lifespan's state.

        Raises:
            WorkerError: There is no lifespan, or its state is of another class.
        """
        if self.state is NO_STATE:
            raise WorkerError(
                f"parameter {need.name!r} is to come from the worker's lifespan, and it has none; "
                "start it with Worker(…, lifespan=…)"
            )
        if need.wanted is None:
            return self.state
        if not isinstance(need.wanted, type):
            return need.wanted(self.state)
        if not isinstance(self.state, need.wanted):
            raise WorkerError(
                f"parameter {need.name!r} wants a {need.wanted.__qualname__} from the worker's lifespan, "
                f"which yielded a {type(self.state).__qualname__}"
            )
        return self.state

    async def value(self, provider: Provider) -> Any:
        """What a provider made for all attempts; its error, if it failed, and then the next one asks anew."""
        held = self._held.get(provider.key)
        if held is None:
            held = self._held[provider.key] = _Held(
                lambda in_thread: self._enter(provider, in_thread), self._context
            )
        try:
            return await asyncio.shield(held.value)
        except BaseException:
            if held.failed and self._held.get(provider.key) is held:
                del self._held[provider.key]
            raise

    def do_behind(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something after an attempt that is over, and before the worker ends."""
        task = asyncio.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    async def close(self) -> None:
        """Give everything back, the youngest first. What goes wrong is logged."""
        if self._behind:
            await asyncio.wait(self._behind, timeout=_PATIENCE)
        for task in list(self._behind):
            task.cancel()
        for held in reversed(self._held.values()):
            await held.leave()
        self._held.clear()

    async def _enter(self, provider: Provider, in_thread: InThread) -> Entered:
        given = {
            need.name: self.state_for(need) if need.provider is None else await self.value(need.provider)
            for need in provider.needs
        }
        return await enter(provider, given, in_thread)


class _Held:
    """One provider's value, and the asyncio task that enters and leaves it.

    A task of its own, as cancel scopes want it, and for the same reason a thread of its own where it needs
    one: those of the pool may be full of functions that do not end.
    """

    def __init__(self, entering: Callable[[InThread], Awaitable[Entered]], context: Context) -> None:
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._entering = entering
        self._context = context.copy()
        self._thread: ThreadPoolExecutor | None = None
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._live(), context=context.copy())

    @property
    def failed(self) -> bool:
        return self.value.done() and (self.value.cancelled() or self.value.exception() is not None)

    async def leave(self) -> None:
        """Clean up; what was not even made yet is given up."""
        self._over.set()
        if not self.value.done():
            self._task.cancel()
        await asyncio.wait([self._task])

    async def _live(self) -> None:
        try:
            await self._hold()
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=False)

    async def _hold(self) -> None:
        try:
            entered = await self._entering(self._in_thread)
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            self._fail(error)
            return
        self.value.set_result(entered.value)
        await self._over.wait()
        try:
            await entered.leave(None)
        except BaseException:
            logger.exception("the clean-up of %s failed at the end of the worker", entered.label)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sitq-provider")
        return await asyncio.wrap_future(self._thread.submit(self._context.run, guarded, call))

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.value.cancel()
            return
        if isinstance(error, StopIteration):  # a future cannot carry it
            error = RuntimeError("the provider raised StopIteration")
        self.value.set_exception(error)
        self.value.exception()  # those who wait may have gone
