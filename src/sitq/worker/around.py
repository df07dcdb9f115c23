"""What happens around a function in each of its attempts: middleware, and what is provided for it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from sitq.clock import as_datetime
from sitq.core import ReservedTask
from sitq.exceptions import ConfigurationError, WorkerError
from sitq.middleware import AroundAttempt
from sitq.provision import Need, Overrides, Plan, Provider, plan_of
from sitq.worker.entering import Entered, Visit, enter, tell
from sitq.worker.run import Run, is_stepping
from sitq.worker.scope import WorkerScope

if TYPE_CHECKING:
    from sitq.record import Record

logger = logging.getLogger("sitq.worker")


class Caller(Protocol):
    """What really calls functions: in the event loop, in a thread, or elsewhere."""

    def takes_thread(self, run: Run, function: Callable[..., Any]) -> bool:
        """Whether a function is called in a thread of this process."""
        ...

    async def call(self, run: Run, call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        """Call a function where it belongs."""
        ...

    async def in_thread(self, run: Run, around: contextvars.Context, call: Callable[[], Any]) -> Any:
        """Call something in a thread that counts as this run's."""
        ...


class Surroundings:
    """A worker's middleware and providers; what they mean for a function is found out once."""

    def __init__(
        self,
        middleware: Sequence[AroundAttempt],
        scope: WorkerScope,
        overrides: Overrides = MappingProxyType({}),
    ) -> None:
        self.middleware = tuple(middleware)
        self.scope = scope
        self._overrides = overrides

    def prepare(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What is to be called in the place of a function: itself, if nothing happens around it."""
        try:
            plan, flaw = plan_of(function, self._overrides), None
        except ConfigurationError as error:
            plan, flaw = None, error
        if plan is None and flaw is None and not self.middleware:
            return function
        return Around(function, plan, self, flaw)


class Around:
    """A function in which more happens than it says itself."""

    def __init__(
        self,
        function: Callable[..., Any],
        plan: Plan | None,
        surroundings: Surroundings,
        flaw: ConfigurationError | None = None,
    ) -> None:
        self._function = self.__wrapped__ = function
        self._plan = plan
        self._surroundings = surroundings
        self._flaw = flaw

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function alone: workers use `attempt`."""
        return self._function(*args, **kwargs)

    async def attempt(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], caller: Caller) -> Any:
        """One attempt, with all that happens around it."""
        if not self._surroundings.middleware:
            return await self._provide(run, args, kwargs, caller)
        task = _reserved(run.record, self._function, args, kwargs)

        async def innermost(given: ReservedTask) -> Any:
            _check_same(task, given)
            return await self._provide(run, given.args, given.kwargs, caller)

        call_next: Callable[[ReservedTask], Awaitable[Any]] = innermost
        for each in reversed(self._surroundings.middleware):
            call_next = _step(each, call_next)
        return await call_next(task)

    async def _provide(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], caller: Caller) -> Any:
        plan = self._plan
        if self._flaw is not None:
            raise ConfigurationError(str(self._flaw))
        if plan is None:
            try:
                return await caller.call(run, (self._function, args, kwargs))
            except TypeError as error:
                if not fits(self._function, args, kwargs):
                    run.unfit = error
                raise
        try:
            plan.signature.bind(*args, **kwargs)  # nothing is provided for a call that cannot be made
        except TypeError as error:
            run.unfit = error
            raise
        scope = self._surroundings.scope
        known = {each.key: await scope.value(each) for each in plan.shared}
        if not plan.in_loop and caller.takes_thread(run, self._function):
            visit = _OneThread(self._function, plan, scope, known)
            around = contextvars.copy_context()
            value, open_still = await caller.in_thread(run, around, lambda: visit.call(args, kwargs))
            return value if not open_still else await visit.end(run, value, around, caller)
        return await _InLoop(run, plan, scope, known, caller).call(self._function, args, kwargs)


def fits(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function can be called with these arguments, as far as its signature tells."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in without a signature
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _step(
    middleware: AroundAttempt, call_next: Callable[[ReservedTask], Awaitable[Any]]
) -> Callable[[ReservedTask], Awaitable[Any]]:
    return lambda task: middleware(task, call_next)


def _reserved(
    record: Record, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ReservedTask:
    return ReservedTask(
        id=record.id,
        function=function,
        args=args,
        kwargs=kwargs,
        eta=as_datetime(record.due),
        attempt=record.attempt,
        queue=record.queue,
        name=record.name,
    )


def _check_same(task: ReservedTask, given: ReservedTask) -> None:
    if not isinstance(given, ReservedTask):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise WorkerError(
            f"a middleware called call_next with {given!r}; write `await call_next(task)`", task_id=task.id
        )
    if given.function is not task.function or given.id != task.id:
        raise WorkerError(
            "a middleware gave call_next another function or id; it may replace args and kwargs, "
            "and enqueue another task for another function",
            task_id=task.id,
        )


# -- providers in the event loop, or in threads one after another ------------------------------------------


class _InLoop:
    """Calls a function and its providers each where it belongs, one after another."""

    def __init__(
        self, run: Run, plan: Plan, scope: WorkerScope, known: dict[object, Any], caller: Caller
    ) -> None:
        self._run = run
        self._plan = plan
        self._scope = scope
        self._known = known
        self._caller = caller
        self._context = contextvars.copy_context()
        self._entered: list[Entered] = []

    async def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returned, after the clean-up."""
        try:
            given = {need.name: await self._value_of(need) for need in self._plan.needs}
            args, kwargs = self._plan.bind(args, kwargs, given)
            value = await self._caller.call(self._run, (function, args, kwargs))
        except GeneratorExit as error:
            if not is_stepping(self._run):
                raise  # the coroutine is thrown away with its event loop
            await _leave(self._entered, error)
            raise
        except BaseException as error:
            thread = self._run.thread
            if thread is not None and not thread.done():  # it goes on, with what was provided for it
                self._scope.do_behind(_leave_behind(thread, self._entered, error))
                raise
            await _leave(self._entered, error)
            raise
        await _leave(self._entered, None)
        return value

    async def _value_of(self, need: Need) -> Any:
        provider = need.provider
        if provider is None:
            return self._scope.state_for(need)
        if provider.key not in self._known:
            given = {each.name: await self._value_of(each) for each in provider.needs}
            made = await enter(provider, given, self._in_thread)
            self._entered.append(made)
            self._known[provider.key] = made.value
        return self._known[provider.key]

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await self._caller.in_thread(self._run, self._context, call)


async def _leave(entered: list[Entered], error: BaseException | None) -> None:
    """Clean up in reverse order, all of them; raises what the last one that failed raised."""
    seen = error
    for each in reversed(entered):
        try:
            await each.leave(seen)
        except BaseException as later:  # noqa: BLE001 - the others are cleaned up first
            seen = later
    if seen is not None and seen is not error:
        raise seen


async def _leave_behind(thread: Future[Any], entered: list[Entered], error: BaseException) -> None:
    await asyncio.wait([asyncio.wrap_future(thread)])
    try:
        await _leave(entered, error)
    except BaseException:
        logger.exception("a clean-up behind a thread that went on failed")


# -- a plain function and plain providers, all in one visit to a thread ------------------------------------


class _OneThread:
    """Calls a function, its providers and their clean-ups in one thread.

    So what belongs to the thread that made it, such as a connection to SQLite, can be provided. If the
    attempt is over before the function is, the clean-up waits for the function.
    """

    def __init__(
        self, function: Callable[..., Any], plan: Plan, scope: WorkerScope, known: dict[object, Any]
    ) -> None:
        self._function = function
        self._plan = plan
        self._scope = scope
        self._known = known
        self._visits: list[tuple[Provider, Visit]] = []

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        """The function's value, and whether it is to be awaited, with the clean-up still to come."""
        try:
            given = {need.name: self._value_of(need) for need in self._plan.needs}
            args, kwargs = self._plan.bind(args, kwargs, given)
            value = self._function(*args, **kwargs)
        except BaseException as error:
            self._leave(error)
            raise
        if inspect.isawaitable(value):
            return value, True
        self._leave(None)
        return value, False

    async def end(self, run: Run, value: Awaitable[Any], around: contextvars.Context, caller: Caller) -> Any:
        """Await what the function returned, then clean up in a thread."""
        try:
            came = await value
        except GeneratorExit:
            raise
        except BaseException as error:
            raised = error  # the name ends with its block
            await caller.in_thread(run, around, lambda: self._leave(raised))
            raise
        await caller.in_thread(run, around, lambda: self._leave(None))
        return came

    def _value_of(self, need: Need) -> Any:
        provider = need.provider
        if provider is None:
            return self._scope.state_for(need)
        if provider.key not in self._known:
            given = {each.name: self._value_of(each) for each in provider.needs}
            try:
                self._known[provider.key] = self._made(provider, given)
            except Exception as error:
                tell(error, provider.label)
                raise
        return self._known[provider.key]

    def _made(self, provider: Provider, given: dict[str, Any]) -> Any:
        if provider.kind == "function":
            return provider.call(**given)
        visit = Visit(provider, given)
        value = visit.enter()
        self._visits.append((provider, visit))
        return value

    def _leave(self, error: BaseException | None) -> None:
        seen = error
        for provider, visit in reversed(self._visits):
            try:
                visit.leave(seen)
            except BaseException as later:  # noqa: BLE001 - the others are cleaned up first
                if later is not seen:
                    tell(later, provider.label)
                seen = later
        if seen is not None and seen is not error:
            raise seen
