"""A short text of a call, for listings.

The producer stores it beside the payload, so that nobody who looks at tasks has to unpickle them. It shows
plain data only, hides what looks secret, and runs no code of the user's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import FunctionType, MethodType, NoneType
from typing import Any

from sitq.functions import ByIdentity

__all__ = ["preview"]

_LENGTH = 512
_TEXT = 80
_DEPTH = 3
_ITEMS = 8
_BITS = 128
_MASK = "***"
_MORE = "…"
_SECRET = re.compile(
    r"passw|passphrase|passcode|pwd|secret|token|credential|authoriz|cookie|signature|session"
    r"|(?:^|_|-|api|access|private|secret|encryption|signing|ssh)key$|^auth$|_auth$|^pin$|^otp$|cvv|cvc|iban|ssn$"
    r"|card_?number|bearer|jwt",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"(://[^\s/@:]*:)[^\s/]+@")
_AUTHORIZATION = re.compile(r"\b(basic|bearer|token)\s+\S+", re.IGNORECASE)
_class_name: Callable[[type], str] = type.__dict__["__name__"].__get__  # a metaclass may have one of its own


def preview(
    args: Sequence[Any], kwargs: Mapping[str, Any], function: Callable[..., Any] | None = None
) -> str:
    """The arguments of a call as one line of at most 512 printable characters.

    Values of parameters and keys that are named like a secret are shown as `***`, objects by their class
    alone, and long or deep values in part. Raises nothing.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        function: Tells the names of positional arguments, so that secrets among them are hidden.
    """
    try:
        hidden = _hidden_positions(function)
        parts: list[str] = []
        room = _LENGTH
        for index, value in enumerate(args):
            part = _MASK if index in hidden else _show(value, _DEPTH)
            parts.append(part)
            room -= len(part) + 2
            if room < 0:
                break
        else:
            for key, value in kwargs.items():
                part = f"{_key(key)}={_MASK if _is_secret(key) else _show(value, _DEPTH)}"
                parts.append(part)
                room -= len(part) + 2
                if room < 0:
                    break
        text = ", ".join(parts)
    except Exception:  # noqa: BLE001 - no listing is worth an enqueue, such as of a dict that changes meanwhile
        return _MORE
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + _MORE


_NONE: frozenset[int] = frozenset()
_hidden: ByIdentity[frozenset[int]] = ByIdentity()


def _hidden_positions(function: object) -> frozenset[int]:
    """The positions of a function's parameters that are named like a secret; none if it is no plain one."""
    if type(function) is MethodType:
        return frozenset(each - 1 for each in _hidden_positions(function.__func__))
    if type(function) is not FunctionType:
        return _NONE
    known = _hidden.get(function)
    if known is None:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        known = frozenset(index for index, name in enumerate(names) if _is_secret(name))
        _hidden.set(function, known)
    return known


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else _text(key)


def _show(value: object, depth: int) -> str:
    show = _SHOWN.get(type(value))
    if show is None:
        return _name_of(value)
    return show(value, depth)


def _name_of(value: object) -> str:
    name = _class_name(type(value))
    return f"<{name if name.isprintable() else ascii(name)}>"[:_TEXT]


def _text(value: str) -> str:
    # `repr` escapes whatever is not printable: controls, terminal sequences, marks of writing direction.
    if len(value) > _TEXT:
        return repr(_unmask(value[: 4 * _TEXT])[:_TEXT]) + _MORE
    return repr(_unmask(value))


def _unmask(value: str) -> str:
    if "://" in value:
        value = _PASSWORD_IN_URL.sub(rf"\1{_MASK}@", value)
    if " " in value and _AUTHORIZATION.search(value):
        value = _AUTHORIZATION.sub(rf"\1 {_MASK}", value)
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
        hidden = type(key) is str and _is_secret(key)
        parts.append(f"{_show(key, 0)}: {_MASK if hidden else _show(value, depth - 1)}")
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
}
