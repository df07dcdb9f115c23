"""One provider: how its value is had, and how it is given back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

from sitq.provision import Provider

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls something in a thread of the worker's."""

_NONE: Final[Mapping[str, Any]] = {}
_RAISED_BY: Final = "raised by the provider"


class Entered:
    """A value, and what is to be done with it in the end.

    Attributes:
        value: What the provider made.
        label: The provider, for messages.
    """

    __slots__ = ("_leave", "label", "value")

    def __init__(
        self, value: Any, label: str, leave: Callable[[BaseException | None], Awaitable[None]] | None = None
    ) -> None:
        self.value = value
        self.label = label
        self._leave = leave

    async def leave(self, error: BaseException | None) -> None:
        """Clean up, and show the provider what ended the attempt.

        Raises:
            BaseException: What the clean-up itself raised.
        """
        if self._leave is None:
            return
        try:
            await self._leave(error)
        except BaseException as later:
            if later is not error:
                tell(later, self.label)
            raise


def guarded(call: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] = _NONE) -> Any:
    """Call something in a thread, so that whatever it raises reaches who waits for it."""
    try:
        return call(*args, **kwargs)
    except (StopIteration, GeneratorExit) as error:
        # A future cannot carry them: in Python 3.11 the one wakes nobody, the other closes who waits for it.
        raise RuntimeError(f"the function raised {type(error).__name__}") from error


async def enter(provider: Provider, given: dict[str, Any], in_thread: InThread) -> Entered:
    """Have a provider make its value.

    What the provider raises gets a note that says who raised it.
    """
    try:
        return await _enter(provider, given, in_thread)
    except Exception as error:
        tell(error, provider.label)
        raise


def tell(error: BaseException, label: str) -> None:
    """Note with an error whose it is; what already has such a note keeps it."""
    if not any(note.startswith(_RAISED_BY) for note in getattr(error, "__notes__", ())):
        error.add_note(f"{_RAISED_BY} {label}")


async def _enter(provider: Provider, given: dict[str, Any], in_thread: InThread) -> Entered:
    call = provider.call
    match provider.kind:
        case "coroutine":
            return Entered(await call(**given), provider.label)
        case "async generator" | "async manager":
            make = asynccontextmanager(call) if provider.kind == "async generator" else call
            manager: AbstractAsyncContextManager[Any] = make(**given)

            async def leave(error: BaseException | None) -> None:
                await manager.__aexit__(*details(error))

            return Entered(await manager.__aenter__(), provider.label, leave)
        case "function":
            return Entered(await in_thread(lambda: call(**given)), provider.label)
        case "generator" | "manager":
            visit = Visit(provider, given)
            try:
                value = await in_thread(visit.enter)
            except asyncio.CancelledError:
                visit.give_up()
                raise
            return Entered(value, provider.label, lambda error: in_thread(lambda: visit.leave(error)))


class Visit:
    """A context manager that is entered and left in threads."""

    def __init__(self, provider: Provider, given: dict[str, Any]) -> None:
        self._make = contextmanager(provider.call) if provider.kind == "generator" else provider.call
        self._given = given
        self._manager: Any = None
        self._turn = threading.Lock()
        self._entered = False
        self._given_up = False

    def enter(self) -> Any:
        """Enter it; if nobody waits for it any more when that is done, leave it at once."""
        self._manager = self._make(**self._given)
        value = self._manager.__enter__()
        with self._turn:
            self._entered = True
            given_up = self._given_up
        if given_up:
            self.leave(None)
        return value

    def give_up(self) -> None:
        """Nobody will leave it: the attempt ended while it was being entered."""
        with self._turn:
            self._given_up = True
            entered = self._entered
        if entered:
            threading.Thread(target=self.leave, args=(None,), name="sitq-clean-up", daemon=True).start()

    def leave(self, error: BaseException | None) -> None:
        """Clean up. A word of the manager's to swallow the error is not heard."""
        self._manager.__exit__(*details(error))


def details(error: BaseException | None) -> tuple[Any, Any, Any]:
    """What `__exit__` is told."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)
