"""What an attempt came to: data between the code that runs a task and the rules that judge it."""

from __future__ import annotations

from dataclasses import dataclass

from sitq.record import Failure


@dataclass(frozen=True, slots=True)
class Returned:
    """The function returned; `result` is ready to be stored."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised, or took longer than its time-out."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Unrunnable:
    """It can never run as it is stored: unreadable, not to be trusted, or with arguments that do not fit."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Unstorable:
    """The function returned, but what it returned cannot be stored."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class AskedRetry:
    """The function asked to be run again, after `delay` microseconds or when its policy says."""

    delay: int | None
    failure: Failure


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The function asked to be run again later; no failure."""

    delay: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """The function found a limit: it runs again later, and nobody starts under `key` before."""

    delay: int
    key: str | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It ended because somebody, perhaps the function itself, cancelled it."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class HandedBack:
    """It did not run to its end through no fault of its own: the worker stops, or lacks the function."""

    delay: int = 0


@dataclass(frozen=True, slots=True)
class Condemned:
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
    | Condemned
)
