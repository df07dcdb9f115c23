"""The shape of a function: what its signature says about its arguments, found out once for each function."""

from __future__ import annotations

import collections.abc
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, NamedTuple

from sitq.dependencies import callers_signature
from sitq.functions import ByIdentity
from sitq.secret import is_marked, sounds_secret

__all__ = ["NO_SHAPE", "Place", "Shape", "Slot", "shape_of"]

_AWAITED: Final[dict[Any, int]] = {
    collections.abc.Awaitable: 0,
    collections.abc.Coroutine: 2,
    collections.abc.Generator: 2,
}


@dataclass(frozen=True, slots=True)
class Slot:
    """What is known of a parameter, or of what a function returns.

    Attributes:
        name: As it stands in the signature; `return` for the result.
        hint: The type, or `Any` where there is none.
        secret: It is marked as `Secret`.
        problem: Why its annotation could not be resolved, or "".
    """

    name: str
    hint: Any = Any
    secret: bool = False
    problem: str = ""

    @property
    def typed(self) -> bool:
        """Whether the hint says anything."""
        return self.hint is not Any and self.hint is not object


class Place(NamedTuple):
    """Where an argument stands in a call, what it is, and its parameter.

    `key` is an index among the positional arguments, or a keyword.
    """

    key: int | str
    value: Any
    slot: Slot | None


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a function's parameters and of its result.

    Attributes:
        positional: The parameters that may be given by position, in order.
        more: That of `*args`.
        named: The parameters that may be given by name.
        others: That of `**kwargs`.
        result: What it returns.
        typed: Whether a parameter has a type.
        secret: Whether a parameter is marked as `Secret`.
        hidden: Positions of parameters that are marked, or named like a secret.
        exact: So many arguments, all by position, are certain to fit; -1 where that has to be looked at.
    """

    positional: tuple[Slot, ...] = ()
    more: Slot | None = None
    named: Mapping[str, Slot] = field(default_factory=dict[str, Slot])
    others: Slot | None = None
    result: Slot | None = None
    typed: bool = False
    secret: bool = False
    hidden: frozenset[int] = frozenset()
    exact: int = -1

    def places(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Place]:
        """Each argument of a call with the parameter that takes it."""
        for index, value in enumerate(args):
            slot = self.positional[index] if index < len(self.positional) else self.more
            yield Place(index, value, slot)
        for name, value in kwargs.items():
            yield Place(name, value, self.named.get(name, self.others))

    def named_at(self, key: int | str) -> str:
        """What an argument is called in errors, by its position or name."""
        if isinstance(key, str):
            return named(key, None)
        return named(key, self.positional[key] if key < len(self.positional) else self.more)


def named(key: int | str, slot: Slot | None) -> str:
    """What an argument is called in errors."""
    if isinstance(key, str):
        return f"keyword argument {key!r}"
    return f"argument {key + 1}" if slot is None else f"argument {key + 1} ({slot.name!r})"


NO_SHAPE: Final = Shape()

_shapes: ByIdentity[Shape] = ByIdentity()
_by_code: ByIdentity[tuple[tuple[Any, ...], Shape]] = ByIdentity()


def shape_of(function: Callable[..., Any]) -> Shape:
    """What is known of a function, remembered for as long as it lives. Raises nothing."""
    known = _shapes.get(function)
    if known is not None:
        return known
    if type(function) is MethodType:
        unbound: Any = getattr(function, "__func__")  # noqa: B009 - which the type checker does not believe
        known = _shapes.get(unbound)
        return _without_first(known if known is not None else _remembered(unbound))
    return _remembered(function)


def _remembered(function: Callable[..., Any]) -> Shape:
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        shape = _of_code(function)
    else:
        try:
            shape = _analysed(function)
        except Exception:  # noqa: BLE001 - an object may raise anything when it is looked at
            shape = NO_SHAPE
    _shapes.set(function, shape)
    return shape


def _of_code(function: FunctionType) -> Shape:
    """Closures made of one piece of code are alike if their annotations are the very same objects."""
    code: CodeType = function.__code__
    hints = tuple(function.__annotations__.values())
    known = _by_code.get(code)
    if (
        known is not None
        and len(known[0]) == len(hints)
        and all(one is two for one, two in zip(known[0], hints, strict=True))
    ):
        return known[1]
    if hints:
        shape = _analysed(function)
    else:
        names = code.co_varnames[: code.co_argcount]
        plain = not (function.__defaults__ or function.__kwdefaults__ or code.co_kwonlyargcount)
        variable = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        shape = Shape(
            hidden=frozenset(index for index, name in enumerate(names) if sounds_secret(name)),
            exact=code.co_argcount if plain and not variable else -1,
        )
    _by_code.set(code, (hints, shape))
    return shape


def _without_first(shape: Shape) -> Shape:
    """The shape of a bound method."""
    if not shape.positional:
        return Shape(hidden=frozenset(index - 1 for index in shape.hidden if index))
    first, *rest = shape.positional
    return Shape(
        tuple(rest),
        shape.more,
        {name: slot for name, slot in shape.named.items() if name != first.name},
        shape.others,
        shape.result,
        shape.typed,
        shape.secret,
        frozenset(index - 1 for index in shape.hidden if index),
        shape.exact - 1,
    )


def _analysed(function: Callable[..., Any]) -> Shape:
    try:
        parameters = tuple(callers_signature(function).parameters.values())
    except Exception:  # noqa: BLE001 - a built-in without a signature, or an object with one of its own
        return NO_SHAPE
    hints = _Hints(function)
    positional: list[Slot] = []
    named: dict[str, Slot] = {}
    more: Slot | None = None
    others: Slot | None = None
    for each in parameters:
        slot = hints.slot(each.name)
        match each.kind:
            case each.POSITIONAL_ONLY:
                positional.append(slot)
            case each.POSITIONAL_OR_KEYWORD:
                positional.append(slot)
                named[each.name] = slot
            case each.KEYWORD_ONLY:
                named[each.name] = slot
            case each.VAR_POSITIONAL:
                more = slot
            case _:
                others = _keywords(slot, named)
    plain = all(each.default is each.empty and each.kind <= each.POSITIONAL_OR_KEYWORD for each in parameters)
    every = [*positional, *named.values(), *([more] if more else []), *([others] if others else [])]
    return Shape(
        tuple(positional),
        more,
        named,
        others,
        hints.result(),
        typed=any(slot.typed for slot in every),
        secret=any(slot.secret for slot in every),
        hidden=frozenset(
            index for index, slot in enumerate(positional) if slot.secret or sounds_secret(slot.name)
        ),
        exact=len(positional) if plain else -1,
    )


def _keywords(slot: Slot, named: dict[str, Slot]) -> Slot | None:
    """The slot of `**kwargs`; where it is `Unpack[…]` of a typed dictionary, each key has one of its own."""
    if typing.get_origin(slot.hint) is not typing.Unpack:
        return slot
    (fields,) = typing.get_args(slot.hint)
    for name, hint in typing.get_type_hints(fields, include_extras=True).items():
        if typing.get_origin(hint) in {typing.Required, typing.NotRequired}:
            (hint,) = typing.get_args(hint)  # noqa: PLW2901 - the type in it
        named.setdefault(name, Slot(name, hint, is_marked(hint)))
    return None


class _Hints:
    """The annotations of a function, resolved one by one, so that a bad one does not spoil the others."""

    def __init__(self, function: Callable[..., Any]) -> None:
        target: Any = inspect.unwrap(function)
        while hasattr(target, "func") and not hasattr(target, "__annotations__"):  # a partial
            target = inspect.unwrap(target.func)
        if not hasattr(target, "__code__") and not isinstance(target, type):
            target = type(target).__call__ if _is_object(target) else target
        self._result = target
        self._target: Any = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
        self._is_class = isinstance(target, type)
        self._given: dict[str, Any] = dict(getattr(self._target, "__annotations__", None) or {})
        try:
            self._resolved: dict[str, Any] = typing.get_type_hints(self._target, include_extras=True)
        except Exception:  # noqa: BLE001 - whatever stands in an annotation; each is tried alone
            self._resolved = {}

    def slot(self, name: str) -> Slot:
        if name not in self._given:
            return Slot(name)
        hint, problem = self._resolved.get(name), ""
        if name not in self._resolved:
            hint, problem = self._alone(self._given[name])
        return Slot(name, hint, is_marked(hint), problem)

    def result(self) -> Slot | None:
        if self._is_class:
            return Slot("return", self._result)
        if "return" not in self._given:
            return None
        slot = self.slot("return")
        index = _AWAITED.get(typing.get_origin(slot.hint))
        if index is None:
            return slot
        inner = typing.get_args(slot.hint)
        return Slot("return", inner[index]) if index < len(inner) else None

    def _alone(self, given: Any) -> tuple[Any, str]:
        if not isinstance(given, str):
            return given, ""
        space = dict(vars(sys.modules.get(getattr(self._target, "__module__", ""), typing)))
        space.update(getattr(self._target, "__globals__", {}))
        code = getattr(self._target, "__code__", None)
        for name, cell in zip(
            getattr(code, "co_freevars", ()), getattr(self._target, "__closure__", None) or (), strict=False
        ):
            try:
                space[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
        try:
            # What typing.get_type_hints does with the annotations of the program's own functions.
            return eval(given, space), ""  # noqa: S307
        except Exception as error:  # noqa: BLE001 - such as a name that is imported for type checkers only
            return Any, f"its annotation {given!r} cannot be resolved here ({type(error).__name__}: {error})"


def _is_object(target: Any) -> bool:
    """Whether it is an object that can be called, and neither a function nor a built-in."""
    return not inspect.isroutine(target) and callable(target)
