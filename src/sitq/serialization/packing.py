"""Typed values as plain data and back, by the hints of the function that they are for.

msgspec does the work for what it knows: dataclasses, its own structs, attrs, named tuples, typed
dictionaries, dates, UUIDs, enumerations, decimals, sets. Added are pydantic's models, paths, addresses, and
unions that it does not take. What would not come back as it went in is refused.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, Final

import msgspec

from sitq.exceptions import SerializationError, ValidationError
from sitq.parents import Parent, ParentMetError

__all__ = ["JSON", "MSGPACK", "Packing", "packing_of"]

_AS_TEXT: Final = (
    PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_ATOMS: Final = frozenset({NoneType, bool, int, str})
# Declared as Any: what is inside an untyped container is unknown, and every item is looked at anyway.
_SEQUENCES: Any = (list, tuple)
_SETS: Any = (set, frozenset)
_MAPPING: Any = dict
_DEEPEST: Final = 64


class Packing:
    """How the values of one format become plain data.

    Args:
        native: Types beyond JSON's that the format has itself.
        text_keys: Whether keys of mappings can only be text.
    """

    def __init__(self, *, native: tuple[type, ...] = (), text_keys: bool) -> None:
        self._native = native
        self._text_keys = text_keys

    def pack(self, value: Any, hint: Any) -> Any:
        """The value as plain data.

        Raises:
            ValidationError: It does not fit the hint, or would come back as something else.
            SerializationError: It cannot be turned into plain data.
        """
        if type(value) is hint and hint in _ATOMS:
            return value
        try:
            plain = msgspec.to_builtins(
                value, builtin_types=self._native, str_keys=self._text_keys, enc_hook=_encoded
            )
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"{_words(error)}", cause=error) from error
        back = self.unpack(plain, hint)
        changed = next(_changes(value, back, "", 0), None)
        if changed is not None:
            raise ValidationError(changed)
        return plain

    def unpack(self, plain: Any, hint: Any) -> Any:
        """The value of plain data.

        Raises:
            ValidationError: It does not fit the hint.
        """
        if type(plain) is hint and hint in _ATOMS:
            return plain
        try:
            return self._convert(plain, _usable(hint))
        except (msgspec.MsgspecError, ValueError, TypeError, NotImplementedError, RecursionError) as error:
            raise ValidationError(_words(error), cause=error) from error

    def _convert(self, plain: Any, hint: Any) -> Any:
        return msgspec.convert(
            plain, hint, builtin_types=self._native, str_keys=self._text_keys, dec_hook=self._decoded
        )

    def _decoded(self, kind: Any, plain: Any) -> Any:
        """A value of a type that msgspec leaves to us."""
        origin = typing.get_origin(kind) or kind
        if isinstance(origin, _Choice):
            return self._chosen(origin, plain)
        if _is_model(kind):
            return _model(kind, plain)
        if issubclass(origin, _AS_TEXT) and type(plain) is str:
            return origin(plain)
        if isinstance(plain, origin):
            return plain
        raise NotImplementedError(f"{name_of(kind)} has no way from and to plain data")

    def _chosen(self, choice: _Choice, plain: Any) -> Any:
        for member in choice.members:
            try:
                return self._convert(plain, member)
            except (msgspec.MsgspecError, ValueError, TypeError, NotImplementedError):
                continue
        raise ValueError(f"it fits none of {' | '.join(name_of(each) for each in choice.members)}")


JSON: Final = Packing(text_keys=True)
MSGPACK: Final = Packing(native=(bytes,), text_keys=False)


def packing_of(serializer: object) -> Packing | None:
    """How a serializer packs typed values; None if it takes them as they are."""
    found: object = getattr(serializer, "packing", None)
    return found if isinstance(found, Packing) else None


def name_of(hint: Any) -> str:
    """A hint as one would write it."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__qualname__
    return str(hint).replace("typing.", "").replace("sitq.secret.", "")


# -- what msgspec does not know ----------------------------------------------------------------------------


class _Choice(type):
    """A union that msgspec does not take, in the disguise of a type: each member is tried in order."""

    members: tuple[Any, ...]

    def __instancecheck__(cls, instance: object) -> bool:
        return True


@lru_cache(maxsize=1024)
def _prepared(hint: Any) -> Any:
    if _is_taken(hint):
        return hint
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _prepared(inner[0])
    if origin is typing.Union or origin is UnionType:
        return _Choice("Choice", (), {"members": tuple(_prepared(each) for each in inner)})
    if origin is None or not inner or origin is typing.Literal:
        return hint
    try:
        return hint.copy_with(tuple(_prepared(each) for each in inner))
    except AttributeError:
        return origin[tuple(each if each is Ellipsis else _prepared(each) for each in inner)]


def _usable(hint: Any) -> Any:
    try:
        return _prepared(hint)
    except TypeError:  # it has no hash, such as Annotated with a list
        return hint


def _is_taken(hint: Any) -> bool:
    """Whether msgspec can read by a hint; what it does not know at all it leaves to us."""
    try:
        msgspec.json.Decoder(hint)
    except TypeError:
        return False
    return True


def _encoded(value: Any) -> Any:
    """Plain data of a value that msgspec leaves to us."""
    if isinstance(value, _AS_TEXT):
        return str(value)
    if _is_model(type(value)):
        _refuse_masked(value, _DEEPEST)
        return value.model_dump(mode="json", round_trip=True)
    if isinstance(value, Parent):
        raise ParentMetError(
            f"it holds the value of task {value.id}, which is not there yet", task_id=value.id
        )
    if isinstance(value, BaseException):
        raise NotImplementedError("an exception is not stored; pass its text")
    raise NotImplementedError(
        f"{type(value).__qualname__} has no way to plain data; use a dataclass, a pydantic model or "
        f"CloudpickleSerializer"
    )


def _is_model(kind: Any) -> bool:
    """Whether it is a model of pydantic 2, which is not imported for that."""
    return (
        isinstance(kind, type) and hasattr(kind, "__pydantic_core_schema__") and hasattr(kind, "model_dump")
    )


def _model(kind: Any, plain: Any) -> Any:
    text = msgspec.json.encode(plain)
    if "by_name" in _parameters(kind.model_validate_json):
        return kind.model_validate_json(text, by_name=True)
    return kind.model_validate_json(text)


@lru_cache(maxsize=1024)
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return frozenset(() if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def _refuse_masked(value: Any, depth: int) -> None:
    """Refuse what pydantic would write as stars: a model with such a field would come back without it."""
    if hasattr(value, "get_secret_value"):
        raise NotImplementedError(
            f"a {type(value).__qualname__} in a model is written as stars; pass it as an argument of its "
            f"own, as text marked with Annotated[str, Secret]"
        )
    if depth <= 0:
        return
    inner: Any = ()
    if isinstance(value, _MAPPING):
        inner = value.values()
    elif isinstance(value, (*_SEQUENCES, *_SETS)):
        inner = value
    elif _is_model(type(value)):
        inner = [getattr(value, name) for name in _fields(type(value))]
    for each in inner:
        _refuse_masked(each, depth - 1)


# -- whether a value came back as it was -------------------------------------------------------------------


def _changes(before: Any, after: Any, where: str, depth: int) -> Iterator[str]:
    """What is of another type after the way there and back."""
    kind, other = _type(before), _type(after)
    if depth > _DEEPEST:
        yield f"{_at(where)} is nested more than {_DEEPEST} levels deep"
    elif isinstance(before, _MAPPING) and isinstance(after, _MAPPING):
        yield from _changes_of_mapping(before, after, where, depth)
    elif isinstance(before, _SEQUENCES) and isinstance(after, _SEQUENCES) and len(before) == len(after):
        for index, (one, two) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, two, f"{where}[{index}]", depth + 1)
    elif isinstance(before, _SETS) and before == after:
        return
    elif kind is other:
        for name in _fields(kind):
            one, two = getattr(before, name, None), getattr(after, name, None)
            yield from _changes(one, two, f"{where}.{name}", depth + 1)
    elif not _is_as_good(before, after):
        yield f"{_at(where)} is of type {kind.__qualname__} and would come back as {other.__qualname__}"


def _changes_of_mapping(before: Any, after: Any, where: str, depth: int) -> Iterator[str]:
    if len(before) != len(after):
        yield f"{_at(where)} has keys that its type does not know"
        return
    for (key, one), (back, two) in zip(before.items(), after.items(), strict=True):
        yield from _changes(key, back, f"{where}[{key!r:.40}] as a key", depth + 1)
        yield from _changes(one, two, f"{where}[{key!r:.40}]", depth + 1)


def _fields(kind: Any) -> tuple[str, ...]:
    if _is_model(kind):
        return tuple(kind.model_fields)
    if hasattr(kind, "__struct_fields__"):
        return tuple(kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return tuple(each.name for each in dataclasses.fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(each.name for each in kind.__attrs_attrs__)
    return ()


def _is_as_good(before: Any, after: Any) -> bool:
    """Whether one type stands for the other where both are meant."""
    if isinstance(before, Enum):
        return type(before.value) is type(after) and before.value == after
    if isinstance(before, PurePath) and isinstance(after, PurePath):
        return True
    if type(before) is int and type(after) is float:
        return float(before) == after
    if isinstance(before, bytes | bytearray | memoryview) and isinstance(
        after, bytes | bytearray | memoryview
    ):
        return True
    # A subclass of a built-in type, such as of datetime or str, comes back as that type.
    return isinstance(before, type(after)) and type(after).__module__ in {
        "builtins",
        "datetime",
        "decimal",
        "uuid",
    }


def _type(value: object) -> type[Any]:
    return type(value)


def _at(where: str) -> str:
    return f"its part {where}" if where else "the value"


def _words(error: BaseException) -> str:
    text = str(error).strip() or type(error).__qualname__
    return " ".join(text.split())[:500]
