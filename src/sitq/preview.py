"""A short text of a call, for listings.

The producer stores it beside the payload, so that nobody who looks at tasks has to unpickle them. It shows
plain data only, hides what looks secret, and runs no code of the user's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any

from sitq.parents import KINDS, Parent
from sitq.secret import MASK, Secret, sounds_secret
from sitq.shape import NO_SHAPE, Shape

__all__ = ["preview"]

_LENGTH = 512
_TEXT = 80
_DEPTH = 3
_ITEMS = 8
_BITS = 128
_MORE = "…"
_PASSWORD_IN_URL = re.compile(r"(://[^\s/@:]*:)[^\s/]+@")
_AUTHORIZATION = re.compile(r"\b(basic|bearer|token)\s+\S+", re.IGNORECASE)
_class_name: Callable[[type], str] = type.__dict__["__name__"].__get__  # a metaclass may have one of its own


def preview(args: Sequence[Any], kwargs: Mapping[str, Any], shape: Shape = NO_SHAPE) -> str:
    """The arguments of a call as one line of at most 512 printable characters.

    Values of parameters and keys that are named like a secret are shown as `***`, objects by their class
    alone, and long or deep values in part; so are those that are marked as `Secret`. Raises nothing.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        shape: Tells which positional arguments are secret.
    """
    try:
        hidden = shape.hidden
        parts: list[str] = []
        room = _LENGTH
        for index, value in enumerate(args):
            part = MASK if index in hidden else _show(value, _DEPTH)
            parts.append(part)
            room -= len(part) + 2
            if room < 0:
                break
        else:
            for key, value in kwargs.items():
                part = f"{_key(key)}={MASK if sounds_secret(key) else _show(value, _DEPTH)}"
                parts.append(part)
                room -= len(part) + 2
                if room < 0:
                    break
        text = ", ".join(parts)
    except Exception:  # noqa: BLE001 - no listing is worth an enqueue, such as of a dict that changes meanwhile
        return _MORE
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + _MORE


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else _text(key)


def _show(value: object, depth: int) -> str:
    show = _SHOWN.get(type(value))
    if show is None:
        return _name_of(value)
    return show(value, depth)


def _name_of(value: object) -> str:
    if type(value) in KINDS and isinstance(value, Parent):
        return f"<value of {value.id}>"[:_TEXT]  # ids are printable
    name = _class_name(type(value))
    return f"<{name if name.isprintable() else ascii(name)}>"[:_TEXT]


def _text(value: str) -> str:
    # `repr` escapes whatever is not printable: controls, terminal sequences, marks of writing direction.
    if len(value) > _TEXT:
        return repr(_unmask(value[: 4 * _TEXT])[:_TEXT]) + _MORE
    return repr(_unmask(value))


def _unmask(value: str) -> str:
    if "://" in value:
        value = _PASSWORD_IN_URL.sub(rf"\1{MASK}@", value)
    if " " in value and _AUTHORIZATION.search(value):
        value = _AUTHORIZATION.sub(rf"\1 {MASK}", value)
    return value


def _whole(value: int) -> str:
    bits = value.bit_length()
    return repr(value) if bits <= _BITS else f"<int of {bits} bits>"


def _items(values: Any, depth: int, brackets: str) -> str:
    if not values:
        return {"{}": "set()", "()": "()"}.get(brackets, brackets)
    if depth == 0:
        return f"{brackets[0]}{_MORE}{brackets[1]}"
    parts: list[str] = []
    for value in values:
        if len(parts) == _ITEMS:
            parts.append(_MORE)
            break
        parts.append(_show(value, depth - 1))
    tail = "," if brackets == "()" and len(parts) == 1 else ""
    return f"{brackets[0]}{', '.join(parts)}{tail}{brackets[1]}"


def _entries(values: dict[Any, Any], depth: int) -> str:
    if not values:
        return "{}"
    if depth == 0:
        return f"{{{_MORE}}}"
    parts: list[str] = []
    for key, value in values.items():
        if len(parts) == _ITEMS:
            parts.append(_MORE)
            break
        hidden = type(key) is str and sounds_secret(key)
        parts.append(f"{_show(key, 0)}: {MASK if hidden else _show(value, depth - 1)}")
    return f"{{{', '.join(parts)}}}"


# Exact types only: a subclass may do anything when it is printed, counted or walked through.
_SHOWN: dict[type, Callable[[Any, int], str]] = {
    NoneType: lambda value, _: repr(value),
    bool: lambda value, _: repr(value),
    float: lambda value, _: repr(value),
    int: lambda value, _: _whole(value),
    str: lambda value, _: _text(value),
    bytes: lambda value, _: f"<{len(value)} bytes>",
    tuple: lambda value, depth: _items(value, depth, "()"),
    list: lambda value, depth: _items(value, depth, "[]"),
    set: lambda value, depth: _items(value, depth, "{}"),
    dict: _entries,
    Secret: lambda _value, _depth: MASK,
}
