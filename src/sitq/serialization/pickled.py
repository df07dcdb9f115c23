"""The default serializer."""

import pickle
from collections.abc import Iterable
from types import NoneType
from typing import Any, cast

import cloudpickle  # type: ignore[import-untyped,unused-ignore]

from sitq.parents import KINDS, ParentMetError
from sitq.serialization.base import damage, refusal

_PROTOCOL = 5
_DEPTH = 4
_WIDTH = 32
_ATOMS = frozenset({NoneType, bool, int, float, str, bytes})
_CONTAINERS = frozenset({tuple, list, dict})
_MAPPING: Any = dict


class CloudpickleSerializer:
    """Takes almost any Python value, and functions and classes that cannot be imported.

    Loading bytes runs whatever code they contain, so they have to come from somebody trusted.
    """

    name = "cloudpickle"
    carries_code = True

    def dumps(self, value: Any, /) -> bytes:
        """The value as a pickle.

        Raises:
            SerializationError: Something in it cannot be pickled.
        """
        try:
            # cloudpickle treats nothing in plain data differently, and pickle takes a sixth of its time.
            if type(value) in _ATOMS or _is_plain(value, _DEPTH):
                return pickle.dumps(value, _PROTOCOL)
            data: bytes = cloudpickle.dumps(value, _PROTOCOL)  # pyright: ignore[reportUnknownMemberType]
            return data
        except (KeyboardInterrupt, ParentMetError):
            raise
        except BaseException as error:
            # __reduce__ and __getstate__ are the user's: they may raise anything, SystemExit included.
            raise refusal(self.name, value, error) from error

    def loads(self, data: bytes, /) -> Any:
        """The value in a pickle.

        Raises:
            SerializationError: The bytes are no pickle, or an object in it could not be rebuilt here.
        """
        try:
            return pickle.loads(data)  # noqa: S301 - the envelope decides what may be loaded
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise damage(self.name, error) from error


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a small value consists of exact built-in types, which pickle never stores by reference.

    And of parents, whose places need nothing of cloudpickle's.
    """
    kind: type[object] = cast("Any", type(value))
    if kind not in _CONTAINERS or not depth:
        return kind in _ATOMS or kind in KINDS
    if not value:
        return True
    if len(value) > _WIDTH:
        return False
    if kind is _MAPPING:
        for key in value:
            if type(key) not in _ATOMS:
                return False
        value = value.values()
    items: Iterable[object] = value
    for item in items:
        inner = type(item)
        if inner in _ATOMS or (inner in _CONTAINERS and not item):  # most arguments need no call
            continue
        if not _is_plain(item, depth - 1):
            return False
    return True
