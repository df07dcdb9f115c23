"""What the annotations of a function say about its arguments: `Annotated[str, ConcurrencyLimit(1)]`."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sitq.dependencies import callers_signature
from sitq.exceptions import ValidationError, describe

_MISSING: Final = object()


class Rule(msgspec.Struct, frozen=True):
    """What may stand in an annotation and is then about the value of that argument."""


class Ruled(NamedTuple):
    """A parameter with a rule.

    Attributes:
        name: The parameter.
        position: Its place among the positional ones, or None if it is passed by keyword only.
        default: Its value where a call has none.
        rule: The rule.
    """

    name: str
    position: int | None
    default: object
    rule: Rule

    def value(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        """The argument in a call; None if there is none."""
        if self.position is not None and self.position < len(args):
            return args[self.position]
        value: object = kwargs.get(self.name, self.default)
        return None if value is _MISSING else value


def rules_of(function: Callable[..., Any]) -> tuple[Ruled, ...]:
    """The rules in a function's annotations, in the order of its parameters.

    Raises:
        ValidationError: An annotation holds the class of a rule instead of a rule, or cannot be evaluated.
    """
    annotations: Any = getattr(function, "__annotations__", None)
    if not annotations or all(isinstance(each, type) for each in annotations.values()):
        return ()
    evaluated = _evaluated(function, annotations)
    found: list[Ruled] = []
    try:
        parameters = callers_signature(function).parameters.values()
    except (TypeError, ValueError):  # annotated, yet without a signature
        return ()
    positional = 0
    for parameter in parameters:
        place = None
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            place, positional = positional, positional + 1
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        default = _MISSING if parameter.default is parameter.empty else parameter.default
        rules = _rules_in(evaluated.get(parameter.name), parameter.name)
        found += [Ruled(parameter.name, place, default, rule) for rule in rules]
    return tuple(found)


def _evaluated(function: Callable[..., Any], annotations: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations as objects; those that name what is not there at run time are left out."""
    if not any(isinstance(each, str) for each in annotations.values()):
        return dict(annotations)
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    found: dict[str, Any] = {}
    for name, annotation in annotations.items():
        carrier = _carrier(name, annotation)
        try:
            found.update(inspect.get_annotations(carrier, globals=scope, eval_str=True))
        except Exception as error:
            if "Annotated[" in annotation:
                raise ValidationError(
                    f"the annotation {annotation} of {name!r} cannot be read: {describe(error)}; "
                    f"import what it names at run time, at the top of the module"
                ) from error
    return found


def _carrier(name: str, annotation: object) -> Callable[..., Any]:
    def carrier() -> None: ...

    carrier.__annotations__ = {name: annotation}
    return carrier


def _rules_in(annotation: object, name: str) -> Iterator[Rule]:
    """The rules in `Annotated[...]`, also where that is a part of a union."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        yield from _rules_in(inner, name)
        for each in metadata:
            if isinstance(each, Rule):
                yield each
            elif isinstance(each, type) and issubclass(each, Rule):
                raise ValidationError(
                    f"the annotation of {name!r} holds the class {each.__name__}; write {each.__name__}(…)"
                )
    elif origin is typing.Union or origin is types.UnionType:
        for part in typing.get_args(annotation):
            yield from _rules_in(part, name)
