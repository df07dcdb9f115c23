"""Places in plain data: where a call holds parents, and how their values come there.

For serializers that know plain data only. A call with parents is stored with None in their places and with a
list of the places beside it, each as the path to it and the parent's id, so that no value of a user's can be
taken for one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sitq.exceptions import SerializationError
from sitq.parents import KINDS, Parent, lacking

_LIST: Any = list
_SEQUENCES: Any = (list, tuple)
_MAPPING: Any = dict
_PLACE = 2
_POSITIONAL, _NAMED = 0, 1
"""Where the path to an argument begins."""


def holds_parent(value: Any) -> bool:
    """Whether there is a parent in lists, tuples and dictionaries, at any depth."""
    if isinstance(value, Parent):
        return True
    if type(value) in _SEQUENCES:
        return any(holds_parent(item) for item in value)
    return type(value) is _MAPPING and any(holds_parent(item) for item in value.values())


def has_direct(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an argument itself is a parent."""
    for value in args:
        if type(value) in KINDS:
            return True
    for value in kwargs.values():  # noqa: SIM110 - a generator would take twice as long
        if type(value) in KINDS:
            return True
    return False


def take_direct(args: Sequence[Any], kwargs: Mapping[str, Any], met: dict[str, str]) -> tuple[Any, ...]:
    """Positional and keyword arguments with None where one is a parent, and the places, if there are any."""
    places: list[tuple[tuple[int, int | str], str]] = []
    positional, named = list(args), dict(kwargs)
    for index, value in enumerate(args):
        if type(value) in KINDS:
            value.met(met)
            places.append(((_POSITIONAL, index), value.id))
            positional[index] = None
    for key, value in kwargs.items():
        if type(value) in KINDS:
            value.met(met)
            places.append(((_NAMED, key), value.id))
            named[key] = None
    return (tuple(positional), named, places) if places else (args, kwargs)


def take_out(value: Any, path: list[Any], places: list[tuple[list[Any], str]], met: dict[str, str]) -> Any:
    """The value with None in the places of parents, which are added to `places` and, by id, to `met`."""
    if isinstance(value, Parent):
        places.append((path, value.id))
        value.met(met)
        return None
    if type(value) in _SEQUENCES:
        return type(value)([take_out(item, [*path, n], places, met) for n, item in enumerate(value)])
    if type(value) is _MAPPING:
        return {key: take_out(item, [*path, key], places, met) for key, item in value.items()}
    return value


def put_in(call: list[Any], places: Any, values: Mapping[str, Any] | None) -> None:
    """Put values into their places in `[args, kwargs]`.

    Raises:
        SerializationError: A value is not at hand, or the places do not fit the call.
    """
    if type(places) not in _SEQUENCES:
        raise SerializationError("the payload is damaged: its places are no list")
    for place in places:
        if type(place) not in _SEQUENCES or len(place) != _PLACE or type(place[0]) not in _SEQUENCES:
            raise SerializationError("the payload is damaged: it has a place that is none")
        path, parent = place
        if type(parent) is not str:
            raise SerializationError("the payload is damaged: a place is that of no task")
        if values is None or parent not in values:
            lacking(parent)
        try:
            _put(call, path, values[parent])
        except (LookupError, TypeError) as error:
            raise SerializationError(
                f"the payload is damaged: there is no place {path!r:.64} for the value of task {parent}"
            ) from error


def _put(container: Any, path: Sequence[Any], value: Any) -> Any:
    """The container with the value in its place; a tuple is made anew."""
    key = path[0]
    after = value if len(path) == 1 else _put(container[key], path[1:], value)
    if type(container) is tuple:
        items: list[Any] = _LIST(container)  # pyright: ignore[reportUnknownArgumentType]
        items[key] = after
        return tuple(items)
    if type(container) is _LIST:
        container[key]  # a place that is not there is damage, for a dictionary, too
    elif container[key] is not None and len(path) == 1:
        raise LookupError(key)
    container[key] = after
    return container
