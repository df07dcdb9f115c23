"""The frame of a worker's work, as users give it: an async context manager."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from sitq.exceptions import ValidationError

__all__ = ["Lifespan", "checked", "managed"]

Managed = Callable[[Any], AbstractAsyncContextManager[Any]]

Lifespan = Managed | Callable[[Any], AsyncIterator[Any]]
"""Made with `asynccontextmanager`, or the async generator function itself; called with the worker."""


def checked(lifespan: Any) -> Lifespan | None:
    """The lifespan, if it can be called with a worker.

    Raises:
        ValidationError: It cannot.
    """
    if lifespan is None:
        return None
    label = getattr(lifespan, "__qualname__", repr(lifespan))
    how = f"write `@asynccontextmanager async def {getattr(lifespan, '__name__', 'lifespan')}(worker): …`"
    if not callable(lifespan):
        raise ValidationError(f"lifespan must be a function that takes the worker, not {label}; {how}")
    if inspect.iscoroutinefunction(lifespan):
        raise ValidationError(f"the lifespan {label} never yields; {how}, with a yield in it")
    try:
        inspect.signature(lifespan).bind(None)
    except TypeError as error:
        raise ValidationError(
            f"the lifespan {label} cannot be called with the worker: {error}; {how}"
        ) from error
    except ValueError:  # it has no signature
        pass
    return cast("Lifespan", lifespan)


def managed(lifespan: Lifespan) -> Managed:
    """The lifespan as a function that makes a context manager."""
    if inspect.isasyncgenfunction(lifespan):
        return asynccontextmanager(lifespan)
    return cast("Managed", lifespan)
