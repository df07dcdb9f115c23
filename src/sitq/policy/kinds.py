"""Kinds of exceptions by name: what a retry policy speaks of, and what is known of a failure."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Final

from sitq.exceptions import ValidationError

_MOST: Final = 100
"""How many names a failure has at the most: a group of exceptions has those of each one in it."""

_LONGEST: Final = 255


def kinds_of(error: BaseException) -> tuple[str, ...]:
    """The names of an exception's class and of its bases; of a group, those of the exceptions in it, too."""
    found: dict[str, None] = {}
    waiting = [error]
    while waiting and len(found) < _MOST:
        one = waiting.pop(0)
        found.update(dict.fromkeys(kinds_of_class(type(one))))
        if isinstance(one, BaseExceptionGroup):
            group: BaseExceptionGroup[BaseException] = one  # pyright: ignore[reportUnknownVariableType]
            with contextlib.suppress(Exception):  # a subclass may do anything
                waiting += group.exceptions
    return tuple(found)[:_MOST]


def kinds_of_class(kind: type[BaseException]) -> tuple[str, ...]:
    """The names of a class and of its bases, but for those that every exception has."""
    try:
        return tuple(name_of_class(each) for each in type.mro(kind) if each not in _EVERY)
    except BaseException:  # noqa: BLE001 - a metaclass may raise anything
        return ()


def name_of_class(kind: type[Any]) -> str:
    """`module.QualName`, or the bare name of a built-in one."""
    module, name = kind.__module__, kind.__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def checked(given: object, what: str) -> str:
    """The name that stands for what a user gave: a class of exceptions, or its dotted name.

    A name under which a module that is imported here offers the class is as good as its own.

    Raises:
        ValidationError: It is neither.
    """
    if isinstance(given, type) and issubclass(given, BaseException):
        return name_of_class(given)
    if not isinstance(given, str):
        raise ValidationError(
            f"{what} takes classes of exceptions, or their dotted names, not {given!r}; "
            f"a policy travels with its task, so it holds no functions"
        )
    if not given or len(given) > _LONGEST or not all(given.split(".")) or not given.isprintable():
        raise ValidationError(f"{what} names the exception {given!r}; write it like 'package.module.Error'")
    found = _look_up(given)
    return given if found is None else name_of_class(found)


def _look_up(name: str) -> type[BaseException] | None:
    module, _, attribute = name.rpartition(".")
    found = getattr(sys.modules.get(module or "builtins"), attribute, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


_EVERY: Final = (object,)
