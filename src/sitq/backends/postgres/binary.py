"""Calls of the server's functions as libpq takes them: parameters and answers in the binary format.

The driver's adaptation of lists takes longer for a task than the server does to store it. What is usual has
few types, so it is written and read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import Final, NamedTuple

Row = Sequence[bytes | None]
"""The columns of a row."""

_TEXT: Final = 25
_BYTEA: Final = 17
_BIGINT: Final = 20
"""The numbers of the types, which are the same in every PostgreSQL."""

_bigint = Struct(">q")
_smallint = Struct(">h")
_size = Struct(">i")
_sized_bigint = Struct(">iq")
_array = Struct(">iiIii")
"""Dimensions, whether there are NULLs, the type, how many, the first one's number."""

_WITHOUT: Final = _size.pack(-1)
_EMPTY: Final = Struct(">iiI")


class Call(NamedTuple):
    """A named statement with its parameters."""

    name: str
    values: Sequence[bytes | None]


# -- parameters ----------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """A text."""
    return value.encode()


def boolean(value: bool) -> bytes:  # noqa: FBT001 - a value
    """A boolean."""
    return b"\1" if value else b"\0"


def jsonb(value: bytes) -> bytes:
    """A JSON document."""
    return b"\1" + value


def bigint(value: int | None) -> bytes | None:
    """A bigint, or NULL."""
    return None if value is None else _bigint.pack(value)


def smallint(value: int) -> bytes:
    """A smallint."""
    return _smallint.pack(value)


def bigints(values: Sequence[int]) -> bytes:
    """An array of bigints, which are often all the same."""
    if not values:
        return _EMPTY.pack(0, 0, _BIGINT)
    n, first = len(values), values[0]
    if n == 1 or values.count(first) == n:
        return _array.pack(1, 0, _BIGINT, n, 1) + _sized_bigint.pack(8, first) * n
    return _array.pack(1, 0, _BIGINT, n, 1) + b"".join([_sized_bigint.pack(8, one) for one in values])


def texts(values: Sequence[str | None]) -> bytes:
    """An array of texts, which may be NULL."""
    n = len(values)
    if n > 1 and values.count(values[0]) == n:
        one = values[0]
        data = _WITHOUT if one is None else _sized(one.encode())
        return _array.pack(1, one is None, _TEXT, n, 1) + data * n
    return _items(_TEXT, [None if one is None else one.encode() for one in values])


def byteas(values: Sequence[bytes | None]) -> bytes:
    """An array of byte strings, which may be NULL."""
    return _items(_BYTEA, values)


def _items(kind: int, values: Sequence[bytes | None]) -> bytes:
    n = len(values)
    if not n:
        return _EMPTY.pack(0, 0, kind)
    if None in values:
        data = b"".join([_WITHOUT if one is None else _sized(one) for one in values])
        return _array.pack(1, 1, kind, n, 1) + data
    there: Sequence[bytes] = values  # type: ignore[assignment]
    data = b"".join(chain.from_iterable(zip(map(_size.pack, map(len, there)), there, strict=True)))
    return _array.pack(1, 0, kind, n, 1) + data


def _sized(value: bytes) -> bytes:
    return _size.pack(len(value)) + value


# -- answers -------------------------------------------------------------------------------------------------


def is_true(column: bytes | None) -> bool:
    """Whether a boolean is true, and not NULL."""
    return column == b"\1"


def number_of(column: bytes | None) -> int | None:
    """A bigint, or None."""
    return None if column is None else int(_bigint.unpack(column)[0])


def text_of(column: bytes | None) -> str | None:
    """A text, or None."""
    return None if column is None else column.decode()


def texts_of(column: bytes | None) -> list[str]:
    """An array of texts; none of NULL."""
    return [one.decode() for one in _elements(column)]


def numbers_of(column: bytes | None) -> list[int]:
    """An array of bigints; none of NULL."""
    return [_bigint.unpack(one)[0] for one in _elements(column)]


def _elements(column: bytes | None) -> list[bytes]:
    """What is in an array of one dimension, without the NULLs."""
    if column is None or len(column) < _array.size:
        return []
    found: list[bytes] = []
    at, end = _array.size, len(column)
    while at < end:
        (size,) = _size.unpack_from(column, at)
        at += _size.size
        if size >= 0:
            found.append(column[at : at + size])
            at += size
    return found
