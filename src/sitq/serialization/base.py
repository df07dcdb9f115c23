"""What a serializer is, and what every one of them is held to."""

from typing import Any, Protocol

from sitq.exceptions import SerializationError, describe

MAX_PAYLOAD = 1024 * 1024
"""Bytes of a payload by default: what every store takes, and little enough to read thousands of."""


class Serializer(Protocol):
    """Turns values into bytes and back.

    Two attributes are optional. `name` is stored beside the bytes and must stay the same for as long as
    they are kept; without it the class's own name is used. `carries_code = False` says that loading bytes
    of a stranger runs no code of theirs; functions are then found by their registered names only. Unsigned
    bytes of a shared store are loaded for the built-in codecs of that kind, and for no other.
    """

    def dumps(self, value: Any, /) -> bytes:
        """The value as bytes."""
        ...

    def loads(self, data: bytes, /) -> Any:
        """The value that `dumps` turned into these bytes."""
        ...


def codec_name(serializer: Serializer) -> str:
    """The name under which a serializer's bytes are stored."""
    name: object = getattr(serializer, "name", None)
    if isinstance(name, str) and name:
        return name
    kind = type(serializer)
    return f"{kind.__module__}.{kind.__qualname__}"


def carries_code(serializer: Serializer) -> bool:
    """Whether loading bytes of this serializer may run code in them; assumed unless it says otherwise."""
    return getattr(serializer, "carries_code", True) is not False


def check_size(data: bytes, limit: int = MAX_PAYLOAD, what: str = "payload") -> bytes:
    """The bytes, if there are not too many of them.

    Raises:
        SerializationError: There are more than `limit`.
    """
    if len(data) <= limit:
        return data
    raise SerializationError(
        f"the {what} has {len(data):,} bytes, more than the limit of {limit:,}; "
        f"give the queue and its workers spill=Spill(folder), or store the data elsewhere and pass its path"
    )


def refusal(codec: str, value: object, error: BaseException) -> SerializationError:
    """The error for a value that a serializer cannot turn into bytes."""
    return SerializationError(
        f"{codec} cannot serialize a value of type {type(value).__qualname__}: {describe(error)}",
        cause=error,
    )


def damage(codec: str, error: BaseException) -> SerializationError:
    """The error for bytes that a serializer cannot load."""
    return SerializationError(f"{codec} cannot load the bytes: {describe(error)}", cause=error)
