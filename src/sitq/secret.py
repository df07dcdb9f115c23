"""What is not to be shown: arguments marked as secret, and names that sound like one."""

from __future__ import annotations

import re
import typing
from functools import lru_cache
from typing import Any, Final, Generic, NoReturn, TypeVar

__all__ = ["MASK", "Secret", "is_marked", "sounds_secret", "texts_of", "without"]

T = TypeVar("T")

MASK: Final = "***"
"""What stands in the place of a secret."""

_SHORTEST: Final = 4
"""Characters of a secret from which on it is hidden wherever it occurs; shorter ones only as whole words."""

_DEEPEST: Final = 8
_MAPPING: Any = dict
_CONTAINERS: Any = (list, tuple, set, frozenset)
_SOUNDS: Final = re.compile(
    r"passw|passphrase|passcode|pwd|secret|token|credential|authoriz|cookie|signature|session"
    r"|(?:^|_|-|api|access|private|secret|encryption|signing|ssh)key$|^auth$|_auth$|^pin$|^otp$|cvv|cvc|iban|ssn$"
    r"|card_?number|bearer|jwt",
    re.IGNORECASE,
)


class Secret(Generic[T]):
    """An argument that is encrypted in the store and hidden wherever sitq shows a task.

    As a mark in a signature, `password: Annotated[str, Secret]`, it holds for each call; as a wrapper,
    `Secret(value)`, for one. The function gets the plain value in both cases. It needs a key ring
    (`SITQ_SECRET_KEYS`) and the extra `sitq-tasks[crypto]`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Secret is an argument of its own, not a part of another one; mark the whole argument as Secret"
        )


@lru_cache(maxsize=1024)
def sounds_secret(name: str) -> bool:
    """Whether a parameter or key of this name is better not shown."""
    return _SOUNDS.search(name) is not None


def is_marked(hint: Any, depth: int = _DEEPEST) -> bool:
    """Whether `Secret` occurs as a mark anywhere in a type hint."""
    if typing.get_origin(hint) is typing.Annotated:
        if any(each is Secret or isinstance(each, Secret) for each in hint.__metadata__):
            return True
        return is_marked(hint.__origin__, depth - 1)
    return depth > 0 and any(is_marked(each, depth - 1) for each in typing.get_args(hint))


def texts_of(value: Any, depth: int = _DEEPEST) -> set[str]:
    """The texts by which a secret value could be recognised in a message."""
    if isinstance(value, str):
        return {str.__str__(value), repr(str.__str__(value))[1:-1]} - {""}
    if isinstance(value, bytes | bytearray):
        return texts_of(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {repr(value)}
    if depth <= 0 or value is None or isinstance(value, bool):
        return set()
    inner: Any = ()
    if isinstance(value, _MAPPING):
        inner = value.values()
    elif isinstance(value, _CONTAINERS):
        inner = value
    elif hasattr(value, "get_secret_value"):  # of pydantic
        inner = (value.get_secret_value(),)
    elif hasattr(value, "__dict__"):
        inner = _values(value)
    else:
        fields: Any = getattr(value, "__struct_fields__", getattr(value, "__slots__", ()))
        inner = [getattr(value, name, None) for name in fields]
    return {text for each in inner for text in texts_of(each, depth - 1)}


def _values(value: object) -> list[Any]:
    fields: dict[str, Any] = vars(value)
    return list(fields.values())


def without(text: str, secrets: tuple[str, ...]) -> str:
    """A text with each of the secrets hidden."""
    if not secrets:
        return text
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return text
