"""Typed arguments that hold parents: the parents stay in their places, all else is packed by its hint.

A parent has no value yet, so a hint is followed to each part beside it. What the whole comes to is looked at
again in the worker, when the values are there.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from types import GenericAlias, UnionType
from typing import Any, Final, cast

from sitq.exceptions import SerializationError
from sitq.parents import Parent, ParentMetError
from sitq.serialization.packing import Packing

__all__ = ["pack_mixed"]

_SEQUENCES: Any = (list, tuple)
_SETS: Any = (set, frozenset)
_MAPPING: Any = dict
_NAMES: Final = ("__value__", "__supertype__")
"""Where an alias and a `NewType` keep what they stand for."""

_PAIR: Final = 2
_DATACLASS: Final = "__dataclass_fields__"


def pack_mixed(packing: Packing, value: Any, hint: Any) -> Any:
    """The value as plain data, with the parents in it left as they are.

    They are found in lists, tuples and dictionaries, and in sets and dataclasses that a hint names, at any
    depth.

    Raises:
        ValidationError: A part does not fit its hint.
        SerializationError: A part cannot be turned into plain data.
    """
    if isinstance(value, Parent):
        return value
    try:
        return packing.pack(value, hint)
    except ParentMetError:
        pass
    hint = _meant(hint, value)
    kind: Any = cast("Any", type(value))
    if kind in _SEQUENCES or (kind in _SETS and _names(hint, value)):
        hints = _of_items(hint, len(value))
        return [pack_mixed(packing, item, each) for item, each in zip(value, hints, strict=True)]
    if kind is _MAPPING:
        return _mapping(packing, value, hint)
    if hasattr(kind, _DATACLASS) and _names(hint, value):
        known = typing.get_type_hints(kind, include_extras=True)
        fields = [each.name for each in dataclasses.fields(kind)]
        return {name: pack_mixed(packing, getattr(value, name), known.get(name, Any)) for name in fields}
    raise SerializationError(
        f"a {kind.__qualname__} cannot hold the value of another task here; pass that as an argument of its "
        f"own, in a list or a dictionary, or in a dataclass or set that the annotation names"
    )


def _mapping(packing: Packing, value: Mapping[Any, Any], hint: Any) -> dict[Any, Any]:
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint)
        return {key: pack_mixed(packing, item, hints.get(key, Any)) for key, item in value.items()}
    inner = typing.get_args(hint)
    of_keys, of_values = inner if len(inner) == _PAIR else (Any, Any)
    packed: dict[Any, Any] = {}
    for key, item in value.items():
        if isinstance(key, Parent):
            raise SerializationError(
                f"the value of task {key.id} cannot be a key of a dictionary; pass it as a value"
            )
        (plain,) = packing.pack({key: None}, _dict_of(of_keys))
        packed[plain] = pack_mixed(packing, item, of_values)
    return packed


def _dict_of(keys: Any) -> Any:
    return GenericAlias(dict, (keys, None))


def _of_items(hint: Any, length: int) -> list[Any]:
    """The hints of the items of a sequence."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and len(inner) == length and Ellipsis not in inner:
        return list(inner)
    return [inner[0] if inner else Any] * length


def _meant(hint: Any, value: Any) -> Any:
    """A hint without its annotations and names, and of a union the member that this value is."""
    for name in _NAMES:
        if hasattr(hint, name):
            return _meant(getattr(hint, name), value)
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _meant(typing.get_args(hint)[0], value)
    if origin is typing.Union or origin is UnionType:
        members = (_meant(each, value) for each in typing.get_args(hint))
        return next((each for each in members if _could_be(each, value)), Any)
    return hint


def _could_be(hint: Any, value: Any) -> bool:
    return isinstance(value, _MAPPING) if typing.is_typeddict(hint) else _names(hint, value)


def _names(hint: Any, value: Any) -> bool:
    """Whether a hint says the type of a value, so that it comes back as that."""
    kind = typing.get_origin(hint) or hint
    return isinstance(kind, type) and kind not in {object, Any} and isinstance(value, kind)
