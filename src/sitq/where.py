"""Which tasks a listing or an operator's word is about, as users say it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict

import msgspec

from sitq import functions, validation
from sitq.backends.base import Filter
from sitq.exceptions import ValidationError
from sitq.record import State


class Where(TypedDict, total=False):
    """Conditions that all must hold.

    Attributes:
        state: One state or several: `blocked`, `queued`, `running`, `completed`, `failed`, `cancelled`,
            `expired`, `dead`.
        queue: The name of the queue.
        function: The function, or the name that tasks have for it.
        text: Text in the id, the function's name or the preview, without regard to ASCII case.
        batch: The batch.
        worker: The worker that runs it.
        older_than: Seconds since it was enqueued.
        created_before: An aware datetime before which it was enqueued.
        finished_before: An aware datetime before which it ended.
    """

    state: str | Iterable[str]
    queue: str
    function: str | Callable[..., Any]
    text: str
    batch: str
    worker: str
    older_than: float | timedelta
    created_before: datetime
    finished_before: datetime


class Ended(TypedDict, total=False):
    """Conditions on tasks that have ended; see `Where`."""

    queue: str
    function: str | Callable[..., Any]
    text: str
    batch: str


NAMES: Final = tuple(Where.__annotations__)


def filter_of(where: Mapping[str, Any], *, newest_first: bool = False, acts: bool = False) -> Filter:
    """What a store scans for. A condition that is None counts as left out.

    Args:
        where: The conditions.
        newest_first: The order.
        acts: Whether something is done to the tasks: a None or empty text is refused then.

    Raises:
        ValidationError: A condition is unknown or not acceptable.
    """
    unknown = where.keys() - {*NAMES}
    if unknown:
        raise ValidationError(f"there is no condition {min(unknown)!r}; there are: {', '.join(NAMES)}")
    given = {name: value for name, value in where.items() if value is not None}
    if acts and len(given) < len(where):
        name = min(where.keys() - given.keys())
        raise ValidationError(
            f"{name} is None, which would take tasks of any; give a value, or leave {name} out"
        )
    if acts and given.get("text") == "":
        raise ValidationError("text is empty, which is in every task; give some, or leave it out")
    found: dict[str, Any] = {_FIELDS[name]: _CHECKS[name](value) for name, value in given.items()}
    if "older_than" in given and "created_before" in given:
        raise ValidationError("older_than and created_before both say how old a task is; give one of them")
    return Filter(**found, newest_first=newest_first)


def limited(where: Filter, states: tuple[State, ...], what: str) -> Filter:
    """The same for those of the states in which something can be done.

    Raises:
        ValidationError: It asks for another state.
    """
    if where.states is None:
        return msgspec.structs.replace(where, states=states)
    wrong = [state.value for state in where.states if state not in states]
    if wrong:
        raise ValidationError(
            f"{what} is about tasks that are {', '.join(state.value for state in states)}; "
            f"{wrong[0]} is none of these"
        )
    return where


def states_of(value: object, states: tuple[State, ...] = tuple(State)) -> tuple[State, ...]:
    """One state or several, by their names.

    Raises:
        ValidationError: There is no such state.
    """
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable):
        raise ValidationError(f"state must be a state or a list of states, not {value!r}")
    every: Iterable[Any] = value  # pyright: ignore[reportUnknownVariableType] - the edge
    found: dict[State, None] = {}
    for one in every:
        if one not in states:
            hint = "; a task that succeeded is completed" if one == "success" else ""
            raise ValidationError(
                f"state must be one of {', '.join(state.value for state in states)}, not {one!r}{hint}"
            )
        found[State(one)] = None
    return tuple(found)


def name_of(value: object) -> str:
    """The name that tasks have for a function, or that name itself."""
    if isinstance(value, str):
        return validation.name(value, "function name")
    return functions.name_of(validation.function(value)).name


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValidationError(f"text must be text, not {type(value).__name__}")
    return value


def _older(value: object) -> int:
    return max(0, time.time_ns() // 1000 - validation.duration(value, "older_than"))


_FIELDS: Final[dict[str, str]] = {
    "state": "states",
    "queue": "queue",
    "function": "name",
    "text": "text",
    "batch": "batch",
    "worker": "owner",
    "older_than": "created_before",
    "created_before": "created_before",
    "finished_before": "finished_before",
}

_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "state": states_of,
    "queue": validation.name,
    "function": name_of,
    "text": _text,
    "batch": lambda value: validation.name(value, "batch"),
    "worker": lambda value: validation.name(value, "worker"),
    "older_than": _older,
    "created_before": lambda value: validation.instant(value, "created_before"),
    "finished_before": lambda value: validation.instant(value, "finished_before"),
}

OPEN: Final = (State.BLOCKED, State.QUEUED, State.RUNNING)
"""The states before the end."""
