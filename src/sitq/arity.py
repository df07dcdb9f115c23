"""Whether a function takes a call: told to who enqueues it, and not found out by the worker."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sitq.dependencies import callers_signature
from sitq.exceptions import ValidationError
from sitq.functions import ByIdentity

__all__ = ["check_call"]

_BY_NAME_ONLY: Final = 1 << 30
"""The place of a parameter that no position reaches."""


@dataclass(frozen=True, slots=True)
class _Arity:
    """What a signature asks for, as numbers that are quick to compare.

    Attributes:
        signature: What callers pass; None if nobody knows.
        most: How many arguments may be given by position.
        places: The positions of those that may be given by name.
        needed: Places and names of the parameters without a default.
    """

    signature: inspect.Signature | None
    most: int = 0
    places: Mapping[str, int] | None = None
    needed: tuple[tuple[int, str], ...] = ()


_UNKNOWN: Final = _Arity(None)

_arities: ByIdentity[_Arity] = ByIdentity()


def check_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call that the function does not take, as far as its signature is known.

    Nothing is known of a built-in without one, and of a function behind decorators, which may fill in some.

    Raises:
        ValidationError: It does not take it; the message says why.
    """
    arity = _arities.get(function)
    if arity is None:
        arity = _arity_of(function)
        _arities.set(function, arity)
    if arity.signature is None or _fits(arity, len(args), kwargs):
        return
    try:
        arity.signature.bind(*args, **kwargs)
    except TypeError as error:
        label = getattr(function, "__qualname__", type(function).__qualname__)
        raise ValidationError(
            f"{label}() cannot be called like that: {error}; it takes {_shown(arity.signature)}",
            operation="enqueue",
        ) from error


def _fits(arity: _Arity, given: int, kwargs: Mapping[str, Any]) -> bool:
    """Whether it fits for certain; where it does not, the signature tells."""
    places = arity.places
    if places is None or given > arity.most:
        return False
    for name in kwargs:
        if places.get(name, -1) < given:
            return False
    return all(place < given or name in kwargs for place, name in arity.needed)


def _arity_of(function: Callable[..., Any]) -> _Arity:
    try:
        if _is_behind(function):
            return _UNKNOWN
        signature = callers_signature(function)
    except Exception:  # noqa: BLE001 - a built-in without one, or an object that raises when it is looked at
        return _UNKNOWN
    most, places, needed = 0, dict[str, int](), list[tuple[int, str]]()
    for each in signature.parameters.values():
        if each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}:
            return _Arity(signature)
        place = _BY_NAME_ONLY if each.kind is each.KEYWORD_ONLY else most
        most += each.kind is not each.KEYWORD_ONLY
        if each.kind is not each.POSITIONAL_ONLY:
            places[each.name] = place
        if each.default is each.empty:
            needed.append((place, each.name))
    return _Arity(signature, most, places, tuple(needed))


def _is_behind(function: Any) -> bool:
    """Whether a decorator stands before it, whose own signature is not the one that it shows."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(function, type):
        inner: tuple[Any, ...] = (function.__init__, function.__new__)  # type: ignore[misc]
    else:
        inner = (function, type(function).__call__)
    return any(hasattr(each, "__wrapped__") for each in inner)


def _shown(signature: inspect.Signature) -> str:
    """The parameters without annotations and defaults, which may be long or secret."""
    empty = inspect.Parameter.empty
    return str(
        inspect.Signature(
            [
                each.replace(annotation=empty, default=empty if each.default is empty else _LEFT_OUT)
                for each in signature.parameters.values()
            ]
        )
    )


class _LeftOut:
    def __repr__(self) -> str:
        return "…"


_LEFT_OUT: Final = _LeftOut()
