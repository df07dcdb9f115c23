"""The arguments of a call on their way into the store and out of it: by type, and without their secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sitq.exceptions import SerializationError, ValidationError
from sitq.parents import Parent, ParentMetError
from sitq.secret import Secret
from sitq.serialization.mixed import pack_mixed
from sitq.serialization.packing import Packing, name_of
from sitq.shape import Place, Shape, Slot, named

__all__ = ["Prepared", "holds_secret", "place_key", "place_of", "prepare", "put_secret", "restore"]

_BY_NAME: Final = "="
"""Begins the place of a keyword argument; that of a positional one is its index."""


class Prepared(NamedTuple):
    """A call as it is stored.

    Attributes:
        args: Positional arguments as plain data, None for each secret one.
        kwargs: Keyword arguments, the same.
        secrets: Places and values of the secret ones.
        shown_args: What others may see of the positional ones: secret ones are `Secret`.
        shown_kwargs: The same of the keyword arguments.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    secrets: list[tuple[str, Any]]
    shown_args: tuple[Any, ...]
    shown_kwargs: dict[str, Any]


def holds_secret(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an argument is wrapped in `Secret`."""
    return any(isinstance(each, Secret) for each in (*args, *kwargs.values()))


def prepare(
    function: Callable[..., Any],
    shape: Shape,
    packing: Packing | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Prepared:
    """Arguments by their types as plain data, and the secret ones taken out.

    Raises:
        ValidationError: An argument does not fit its annotation; it is named.
        SerializationError: An argument cannot be turned into plain data; it is named.
    """
    stored: dict[int | str, Any] = {}
    shown: dict[int | str, Any] = {}
    secrets: list[tuple[str, Any]] = []
    for place in shape.places(args, kwargs):
        value, slot = place.value, place.slot
        wrapper = _wrapper(value)
        secret = wrapper is not None or (slot is not None and slot.secret)
        if wrapper is not None:
            value = wrapper.reveal()
        if isinstance(value, Parent):  # its value comes when the task runs, from a result that all can read
            secret = False
        shown[place.key] = Secret(value) if secret else value
        if packing is not None and slot is not None and slot.typed and not isinstance(value, Parent):
            value = _packed(packing, value, place, slot, function, secret=secret)
        if secret:
            secrets.append((place_of(place.key), value))
            value = None
        stored[place.key] = value
    positions = range(len(args))
    return Prepared(
        tuple(stored[index] for index in positions),
        {name: stored[name] for name in kwargs},
        secrets,
        tuple(shown[index] for index in positions),
        {name: shown[name] for name in kwargs},
    )


def restore(
    function: Callable[..., Any],
    shape: Shape,
    packing: Packing,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments that are plain data as what their annotations say.

    Raises:
        SerializationError: An argument does not fit its annotation; it is named.
    """
    found: dict[int | str, Any] = {}
    for place in shape.places(args, kwargs):
        value, slot = place.value, place.slot
        if slot is not None and slot.typed:
            try:
                value = packing.unpack(value, slot.hint)
            except ValidationError as error:
                message = f"{_misfit(place, slot, function)}{_detail(error, secret=slot.secret)}"
                raise SerializationError(message) from (None if slot.secret else error)
        found[place.key] = value
    return tuple(found[index] for index in range(len(args))), {name: found[name] for name in kwargs}


def place_of(key: int | str) -> str:
    """The place of an argument as text."""
    return str(key) if isinstance(key, int) else _BY_NAME + key


def place_key(place: str) -> int | str:
    """The key of an argument by its place: the other way round."""
    return place[1:] if place.startswith(_BY_NAME) else int(place)


def put_secret(args: list[Any], kwargs: dict[str, Any], place: str, value: Any) -> None:
    """Put a secret back into its place.

    Raises:
        SerializationError: There is no such place.
    """
    if place.startswith(_BY_NAME):
        kwargs[place[1:]] = value
    elif place.isdecimal() and int(place) < len(args):
        args[int(place)] = value
    else:
        raise SerializationError(f"the payload is damaged: there is no place {place!a} for a secret argument")


def _wrapper(value: object) -> Secret[Any] | None:
    return value if isinstance(value, Secret) else None  # pyright: ignore[reportUnknownVariableType]


def _packed(
    packing: Packing, value: Any, place: Place, slot: Slot, function: Callable[..., Any], *, secret: bool
) -> Any:
    try:
        try:
            return packing.pack(value, slot.hint)
        except ParentMetError:
            return pack_mixed(packing, value, slot.hint)
    except (ValidationError, SerializationError) as error:
        message = f"{_misfit(place, slot, function)}{_detail(error, secret=secret)}"
        raise type(error)(message) from (None if secret else error)


def _misfit(place: Place, slot: Slot, function: Callable[..., Any]) -> str:
    label = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{named(place.key, slot)} of {label}() does not fit its annotation {name_of(slot.hint)}"


def _detail(error: BaseException, *, secret: bool) -> str:
    return "; it is secret, so no more is said" if secret else f": {error}"
