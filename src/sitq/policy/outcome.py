"""What an attempt came to: data between the code that runs a task and the rules that judge it."""

from __future__ import annotations

import msgspec

from sitq.record import Failure


class Returned(msgspec.Struct, frozen=True, gc=False):
    """The function returned; `result` is ready to be stored."""

    result: bytes


class Raised(msgspec.Struct, frozen=True, gc=False):
    """The function raised, or took longer than its time-out.

    Attributes:
        failure: What is kept of it.
        kinds: The names of the exception's class and of its bases, by which a policy judges it.
    """

    failure: Failure
    kinds: tuple[str, ...] = ()


class Unrunnable(msgspec.Struct, frozen=True, gc=False):
    """It can never run as it is stored: unreadable, not to be trusted, or with arguments that do not fit."""

    failure: Failure


class Unstorable(msgspec.Struct, frozen=True, gc=False):
    """The function returned, but what it returned cannot be stored."""

    failure: Failure


class AskedRetry(msgspec.Struct, frozen=True, gc=False):
    """The function asked to be run again, after `delay` microseconds or when its policy says."""

    delay: int | None
    failure: Failure


class Snoozed(msgspec.Struct, frozen=True, gc=False):
    """The function asked to be run again later; no failure."""

    delay: int


class Throttled(msgspec.Struct, frozen=True, gc=False):
    """The function found a limit: it runs again later, and nobody starts under `key` before."""

    delay: int
    key: str | None


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """It ended because somebody, perhaps the function itself, cancelled it."""

    failure: Failure


class HandedBack(msgspec.Struct, frozen=True, gc=False):
    """It did not run to its end through no fault of its own: the worker stops, or lacks the function."""

    delay: int = 0


class Crashed(msgspec.Struct, frozen=True, gc=False):
    """The process of its own that it ran in died, and nothing else ran there."""

    failure: Failure


class Condemned(msgspec.Struct, frozen=True, gc=False):
    """It did not run any more, since it killed its worker whenever it ran alone."""

    failure: Failure


Outcome = (
    Returned
    | Raised
    | Unrunnable
    | Unstorable
    | AskedRetry
    | Snoozed
    | Throttled
    | Cancelled
    | HandedBack
    | Crashed
    | Condemned
)
