"""A call as a payload: the function, where it is carried by value, and its arguments."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from sitq.dependencies import callers_signature
from sitq.exceptions import SerializationError, describe
from sitq.parents import ParentMetError, giving_values, noting_places
from sitq.serialization.base import Serializer, carries_code, codec_name, damage, refusal
from sitq.serialization.places import holds_parent, put_in, take_direct, take_out

_WITHOUT_FUNCTION = 2
_WITH_FUNCTION = 3
_MOST_PARTS = 4
_SEQUENCES = frozenset({tuple, list})
_MAPPINGS = frozenset({dict})
_TUPLE: Any = tuple
_DICT: Any = dict


class Call(NamedTuple):
    """What a payload holds; `function` is None where it is carried by name."""

    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def dumps_call(
    serializer: Serializer,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    function: Callable[..., Any] | None = None,
    *,
    target: Callable[..., Any] | None = None,
) -> bytes:
    """The payload of a call: `(args, kwargs)`, or `(function, args, kwargs)`.

    Args:
        serializer: Makes the bytes.
        args: Positional arguments.
        kwargs: Keyword arguments.
        function: The function, where it is to be carried by value.
        target: The function to be called, where it is carried by name; used in messages only.

    Raises:
        ParentMetError: There is a parent among the arguments; `dumps_call_with_parents` takes it.
        SerializationError: Names the argument that cannot be serialized.
    """
    positional = cast("tuple[Any, ...]", args) if type(args) is _TUPLE else tuple(args)
    named = cast("dict[str, Any]", kwargs) if type(kwargs) is _DICT else dict(kwargs)
    if function is None:
        value: Any = (positional, named)
    elif carries_code(serializer):
        value = (function, positional, named)
    else:
        raise SerializationError(
            f"{_label(function)} can only be sent by value, which {codec_name(serializer)} cannot do; give "
            f"it a name with @task(name=…), move it to an importable module, or use CloudpickleSerializer"
        )
    try:
        return _dumps(serializer, value)
    except ParentMetError:
        raise
    except SerializationError as error:
        whole = error
    if isinstance(whole.cause, ParentMetError):
        raise whole.cause
    if holds_parent(positional) or holds_parent(named):
        raise ParentMetError("there is a parent among the arguments") from whole
    raise _explained(serializer, Call(function, positional, named), target or function, whole)


def dumps_call_with_parents(
    serializer: Serializer,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    function: Callable[..., Any] | None = None,
    *,
    target: Callable[..., Any] | None = None,
) -> tuple[bytes, dict[str, str]]:
    """The payload of a call with parents among its arguments, and their ids with their effects.

    Where an argument is a parent, its place is kept beside the call: `(args, kwargs, places)`. A serializer
    that pickles keeps those that lie deeper by itself, at any depth and in any object. For others they are
    taken out of lists, tuples and dictionaries in the same way.

    Raises:
        SerializationError: Names the argument that cannot be serialized.
    """
    head = () if function is None else (function,)
    call = Call(function, tuple(args), dict(kwargs))
    met: dict[str, str] = {}
    with noting_places(met):
        try:
            if carries_code(serializer):
                return _dumps(serializer, (*head, *take_direct(call.args, call.kwargs, met))), met
        except SerializationError as error:
            if met or not holds_parent([call.args, call.kwargs]):
                raise _explained(serializer, call, target or function, error) from error
        places: list[tuple[list[Any], str]] = []
        call = Call(function, *take_out([call.args, call.kwargs], [], places, met))
        try:
            return _dumps(serializer, (*head, call.args, call.kwargs, places)), met
        except SerializationError as error:
            raise _explained(serializer, call, target or function, error) from error


def _explained(
    serializer: Serializer, call: Call, target: Callable[..., Any] | None, whole: SerializationError
) -> SerializationError:
    """The error that names the part of a call which cannot be serialized."""
    for where, part in _parts(call, target):
        try:
            _dumps(serializer, part)
        except SerializationError as error:
            reason = str(error) if error.cause is None else describe(error.cause)
            return SerializationError(
                f"{where} of type {type(part).__qualname__} cannot be serialized by "
                f"{codec_name(serializer)}: {reason}{_BY_VALUE if part is call.function else _remedy(part)}",
                cause=error.cause,
            )
    return SerializationError(f"the call cannot be serialized: {whole}", cause=whole.cause)


def loads_call(serializer: Serializer, data: bytes, values: Mapping[str, Any] | None = None) -> Call:
    """The call in a payload.

    Args:
        serializer: Reads the bytes.
        data: The payload.
        values: The values that belong in the places of parents, by their ids; None if there are none.

    Raises:
        SerializationError: The bytes cannot be loaded, are no call, or take a value that is not given.
    """
    try:
        if values is None:
            value = serializer.loads(data)
        else:
            with giving_values(values):
                value = serializer.loads(data)
    except (KeyboardInterrupt, SerializationError):
        raise
    except BaseException as error:
        raise damage(codec_name(serializer), error) from error
    if (
        type(value) is _TUPLE
        and len(value) == _WITHOUT_FUNCTION
        and type(value[0]) is _TUPLE
        and type(value[1]) is _DICT
        and not value[1]
    ):
        return Call(None, value[0], value[1])  # the frequent case
    if type(value) in _SEQUENCES:
        if len(value) == _WITHOUT_FUNCTION and _are_arguments(value[0], value[1]):
            return Call(None, tuple(value[0]), value[1])
        if (
            len(value) == _WITH_FUNCTION
            and callable(value[0])
            and _are_arguments(value[1], value[2])
            and carries_code(serializer)
        ):
            return Call(value[0], tuple(value[1]), value[2])
        if len(value) in {_WITH_FUNCTION, _MOST_PARTS} and _are_arguments(*value[-3:-1]):
            *head, args, kwargs, places = value
            if not head or (callable(head[0]) and carries_code(serializer)):
                filled: list[Any] = [args, kwargs]
                put_in(filled, places, values)
                return Call(head[0] if head else None, tuple(filled[0]), filled[1])
    raise SerializationError(
        f"the payload is no call: {codec_name(serializer)} read {type(value).__qualname__} "
        f"where (args, kwargs) or (function, args, kwargs) was expected"
    )


def _are_arguments(args: object, kwargs: Any) -> bool:
    if type(args) not in _SEQUENCES or type(kwargs) not in _MAPPINGS:
        return False
    for key in kwargs:  # noqa: SIM110 - a generator would take twice as long
        if type(key) is not str:
            return False
    return True


def _dumps(serializer: Serializer, value: Any) -> bytes:
    """What a serializer makes of a value, also when it keeps none of its promises."""
    try:
        data = serializer.dumps(value)
    except (KeyboardInterrupt, SerializationError):
        raise
    except BaseException as error:
        raise refusal(codec_name(serializer), value, error) from error
    if isinstance(cast("object", data), bytes):
        return data
    raise SerializationError(
        f"the serializer {codec_name(serializer)} returned {type(data).__qualname__}; "
        f"its dumps() must return bytes"
    )


def _parts(call: Call, target: Callable[..., Any] | None) -> Iterator[tuple[str, Any]]:
    """Each part of a call with its name for a message."""
    if call.function is not None:
        yield f"the function {_label(call.function)}", call.function
    names = _parameters(target)
    for index, value in enumerate(call.args):
        name = f" ({names[index]!r})" if index < len(names) else ""
        yield f"argument {index + 1}{name}", value
    for key, value in call.kwargs.items():
        yield f"keyword argument {key!r}", value


def _parameters(function: Callable[..., Any] | None) -> list[str]:
    if function is None:
        return []
    try:
        parameters = callers_signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in parameters if each.kind in positional]


def _label(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


_BY_VALUE: Final = (
    "; it travels by value, with all that it uses, since no worker can import it (it is a lambda, an inner "
    "function, a method of an object, or in the script that runs): put it into a module, such as tasks.py"
)


def _remedy(value: object) -> str:
    if inspect.iscoroutine(value):
        return "; await it first and pass what it returns"
    if inspect.isgenerator(value):
        return "; pass list(…) of it"
    return ""
