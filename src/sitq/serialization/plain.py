"""Serializers for plain data, safe to load from anybody."""

import math
from collections.abc import Callable
from enum import Enum
from types import NoneType
from typing import Any, NamedTuple

import msgspec

from sitq.exceptions import SerializationError
from sitq.serialization import packing
from sitq.serialization.base import damage, refusal

_MAX_DEPTH = 64

# Declared as Any: what is inside an untyped container is unknown, and every item is looked at anyway.
_MAPPINGS: Any = dict
_SEQUENCES: Any = (tuple, list)


class JSONSerializer:
    """Takes what JSON can give back unchanged, except that tuples come back as lists.

    That is: None, booleans, integers, finite numbers, text, lists, tuples, dictionaries with text as keys,
    and enumerations of these, which come back as their values. Anything else is refused, as guessing would
    change values silently: NaN would become null, 1 as a key "1", and a date text.
    """

    name = "json"
    carries_code = False
    packing = packing.JSON

    def dumps(self, value: Any, /) -> bytes:
        """The value as JSON in UTF-8.

        Raises:
            SerializationError: JSON has no way to say it, or it is nested more than 64 levels deep.
        """
        return _encode(self.name, value, _JSON, msgspec.json.encode)

    def loads(self, data: bytes, /) -> Any:
        """The value of a JSON text.

        Raises:
            SerializationError: The bytes are not JSON.
        """
        return _decode(self.name, data, msgspec.json.decode)


class MsgpackSerializer:
    """Takes what JSON takes, and also bytes, NaN, infinity, and whole numbers and bytes as keys.

    Integers have to fit 64 bits.
    """

    name = "msgpack"
    carries_code = False
    packing = packing.MSGPACK

    def dumps(self, value: Any, /) -> bytes:
        """The value as MessagePack.

        Raises:
            SerializationError: MessagePack has no way to say it, or it is nested more than 64 levels deep.
        """
        return _encode(self.name, value, _MSGPACK, msgspec.msgpack.encode)

    def loads(self, data: bytes, /) -> Any:
        """The value of a MessagePack message.

        Raises:
            SerializationError: The bytes are not MessagePack.
        """
        return _decode(self.name, data, msgspec.msgpack.decode)


class _Rules(NamedTuple):
    """Exact types that a format gives back as they were."""

    atoms: frozenset[type]
    keys: frozenset[type]


_JSON = _Rules(frozenset({NoneType, bool, int, str}), frozenset({str}))
_MSGPACK = _Rules(frozenset({NoneType, bool, int, str, float, bytes}), frozenset({str, int, bytes}))


def _encode(codec: str, value: Any, rules: _Rules, encode: Callable[[Any], bytes]) -> bytes:
    try:
        problem = _problem(value, rules, 0)
        if problem is None:
            return encode(value)
    except Exception as error:
        raise refusal(codec, value, error) from error
    raise SerializationError(f"{codec} cannot serialize it: value{problem}")


def _decode(codec: str, data: bytes, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(data)
    except Exception as error:
        raise damage(codec, error) from error


def _problem(value: Any, rules: _Rules, depth: int) -> str | None:
    """Where a value holds something that would not come back, and what; None if it does not."""
    if isinstance(value, _MAPPINGS):
        for key in value:
            if type(key) not in rules.keys:
                return f" has the key {key!r:.64} of type {type(key).__qualname__}; use text"
        items = value.items()
    elif isinstance(value, _SEQUENCES):
        items = enumerate(value)
    else:
        return _problem_of_leaf(value, rules, depth)
    if depth >= _MAX_DEPTH:
        return f" is nested more than {_MAX_DEPTH} levels deep"
    atoms = rules.atoms
    for key, item in items:
        if type(item) not in atoms and (found := _problem(item, rules, depth + 1)):
            return f"[{key!r:.64}]{found}"
    return None


def _problem_of_leaf(value: object, rules: _Rules, depth: int) -> str | None:
    kind = type(value)
    if kind in rules.atoms:
        return None
    if type(value) is float:
        return None if math.isfinite(value) else f" is {value}, which JSON does not have"
    if isinstance(value, Enum):
        return _problem(value.value, rules, depth)
    return f" is of type {kind.__qualname__}; convert it to plain data, or use CloudpickleSerializer"
