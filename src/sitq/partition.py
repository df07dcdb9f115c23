"""Keys that divide tasks among themselves: those of limits, of tenants and of unique tasks.

A key is given as text, or taken from the call: by a function that gets those of the task's arguments that it
names and returns the key, or None where the rule does not apply to that call.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sitq import validation
from sitq.dependencies import callers_signature
from sitq.exceptions import ValidationError, describe

Key = str | Callable[..., object]
"""Text, or a function of the task's arguments."""

_LONGEST: Final = 255
_DIGEST: Final = 32
_PLAIN: Final = (str, int, float, Decimal, UUID, date, time, timedelta)


def key(value: object, what: str) -> Key:
    """A key as a user gives it.

    Raises:
        ValidationError: It is neither text that can be a name nor a function.
    """
    if callable(value):
        return value
    if isinstance(value, str):
        return validation.name(value, f"key of {what}")
    raise ValidationError(
        f"the key of {what} must be text or a function of the task's arguments, not {type(value).__name__}; "
        f"pass it as text, for example str(value)"
    )


def from_call(
    function: Callable[..., object],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    task: Callable[..., Any] | None = None,
) -> object:
    """What a key's function makes of a call.

    It gets the arguments that it names, by name, defaults included, and all of them if it takes `**`. Where
    its names are not those of the task, it gets as many as it takes, in their order.

    Args:
        function: The key's function.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        task: What is called; without it, the key's function gets the arguments as they are.

    Raises:
        ValidationError: It raised.
    """
    known: dict[str, Any] = {}
    if task is not None:
        args, kwargs, known = _passed(function, args, kwargs, task)
    try:
        return function(*args, **kwargs)
    except Exception as error:
        called = getattr(function, "__qualname__", type(function).__qualname__)
        names = f", by their names: {', '.join(known)}" if known else ""
        raise ValidationError(
            f"the key function {called} failed: {describe(error)}; it gets the arguments of the task{names}"
        ) from error


def _passed(
    function: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any], task: Callable[..., Any]
) -> tuple[Sequence[Any], Mapping[str, Any], dict[str, Any]]:
    """What of a call goes to a key's function, and what the task has by name."""
    try:
        bound = callers_signature(task).bind(*args, **kwargs)
        wanted = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in without a signature
        return args, kwargs, {}
    bound.apply_defaults()
    known = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            known.update(known.pop(parameter.name))
    named = [each for each in wanted if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    by_name = {each.name: known[each.name] for each in named if each.name in known}
    by_position = sum(each.kind is each.POSITIONAL_ONLY for each in wanted)
    takes_more = any(each.kind is each.VAR_POSITIONAL for each in wanted)
    takes_all = any(each.kind is each.VAR_KEYWORD for each in wanted)
    fits = all(each.name in known or each.default is not each.empty for each in named)
    if not by_position and not takes_more and fits and (by_name or takes_all):
        return (), known if takes_all else by_name, known
    by_position += sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in named)
    first = bound.args if takes_more else bound.args[:by_position]
    passed = {*[each.name for each in named][: len(first)], *list(bound.arguments)[: len(first)]}
    rest = known if takes_all else by_name
    return first, {name: value for name, value in rest.items() if name not in passed}, known


def text_of(value: object, what: str) -> str:
    """A plain value as text that is the same in every process.

    Raises:
        ValidationError: The value is no plain one, so its text might differ from process to process.
    """
    if isinstance(value, Enum):
        return text_of(value.value, what)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, _PLAIN):
        return str(value)
    raise ValidationError(
        f"{what} is of type {type(value).__name__}, of which no key can be made; "
        f"give key=… a function that returns text"
    )


def joined(*parts: str) -> str:
    """Parts as one key; one that is too long or not printable is named by its digest (SHA-256)."""
    whole = ":".join(parts)
    if whole.isprintable() and len(whole.encode("utf-8", "surrogatepass")) <= _LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    start = "".join(each if each.isprintable() and each.isascii() else "?" for each in whole)
    return f"{start[: _LONGEST - _DIGEST - 1]}#{digest}"
