"""What a function wants from its worker instead of its caller: markers in its signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from sitq.exceptions import ConfigurationError, ValidationError, describe

if TYPE_CHECKING:
    from contextlib import (
        _AsyncGeneratorContextManager,  # pyright: ignore[reportPrivateUsage] - what the decorators return
        _GeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
    )

__all__ = [
    "INJECTED",
    "Depends",
    "FromLifespan",
    "Marker",
    "OfLifespan",
    "Provided",
    "Scope",
    "callers_signature",
    "is_plain",
    "marker_of",
]

T = TypeVar("T")

Scope = Literal["attempt", "worker"]
"""How long what a provider made is used: for one attempt, or by all attempts of a worker."""


class _Injected:
    """The type of `INJECTED`."""

    def __repr__(self) -> str:
        return "<given by the worker>"

    def __reduce__(self) -> str:
        return "INJECTED"


INJECTED: Any = _Injected()
"""The default of a parameter that the worker fills in, so that type checkers let callers leave it out."""


class Marker:
    """What `Depends` and `FromLifespan` leave in a signature."""


@dataclass(frozen=True, slots=True)
class Provided(Marker):
    """A provider makes the value."""

    provider: Callable[..., Any]
    scope: Scope


@dataclass(frozen=True, slots=True)
class OfLifespan(Marker):
    """It is taken from the state of the lifespan."""

    wanted: Any


@overload
def Depends(provider: type[AbstractAsyncContextManager[T, Any]], *, scope: Scope = "attempt") -> T: ...
@overload
def Depends(provider: type[AbstractContextManager[T, Any]], *, scope: Scope = "attempt") -> T: ...
@overload
def Depends(provider: Callable[..., _AsyncGeneratorContextManager[T]], *, scope: Scope = "attempt") -> T: ...
@overload
def Depends(provider: Callable[..., _GeneratorContextManager[T]], *, scope: Scope = "attempt") -> T: ...
@overload
def Depends(provider: Callable[..., AsyncIterator[T]], *, scope: Scope = "attempt") -> T: ...
@overload
def Depends(provider: Callable[..., Iterator[T]], *, scope: Scope = "attempt") -> T: ...
@overload
def Depends(provider: Callable[..., Awaitable[T]], *, scope: Scope = "attempt") -> T: ...
@overload
def Depends(provider: Callable[..., T], *, scope: Scope = "attempt") -> T: ...


def Depends(provider: Callable[..., Any], *, scope: Scope = "attempt") -> Any:  # noqa: N802 - the field's word
    """Have the worker fill in a parameter with what a provider makes.

    Written into the annotation, `client: Annotated[Client, Depends(get_client)] = INJECTED`, or as the
    default, `client: Client = Depends(get_client)`. For type checkers it is what the provider makes.

    The provider is a function, an async function, a generator or an async generator that yields once and
    cleans up after it, a function decorated with `contextmanager` or `asynccontextmanager`, or a class; one
    that is a context manager is entered and left. Its own parameters are filled in by the same rules. What is
    not async runs in a thread, as tasks do.

    Within an attempt each provider runs once. It is cleaned up after the attempt, in reverse order, and sees
    the exception that ended it, if one did; it cannot swallow it. With `scope="worker"` it runs when it is
    first needed, for all attempts of the worker, and is cleaned up after the last one.

    Raises:
        ValidationError: The provider cannot be called, or there is no such scope.
    """
    if not callable(provider):
        raise ValidationError(
            f"Depends takes a function or class that makes the value, not {provider!r}; "
            "write Depends(get_value), without calling it"
        )
    if scope not in ("attempt", "worker"):
        raise ValidationError(f"scope must be attempt or worker, not {scope!r}")
    return Provided(provider, scope)


@overload
def FromLifespan() -> Any: ...
@overload
def FromLifespan(wanted: type[T]) -> T: ...
@overload
def FromLifespan(wanted: Callable[[Any], T]) -> T: ...


def FromLifespan(wanted: Any = None) -> Any:  # noqa: N802 - as Depends
    """Have the worker fill in a parameter from the state that its lifespan yielded.

    Written like `Depends`: `state: State = FromLifespan(State)`, or
    `state: Annotated[State, FromLifespan()] = INJECTED`.

    Args:
        wanted: The class that the state must be of, or a function that takes a part of it, such as
            `lambda state: state.client`. By default the whole state, whatever it is.

    Raises:
        ValidationError: It is neither.
    """
    if wanted is not None and not callable(wanted):
        raise ValidationError(f"FromLifespan takes a class, or a function of the state, not {wanted!r}")
    return OfLifespan(wanted)


def callers_signature(function: Callable[..., Any]) -> inspect.Signature:
    """What callers of a function pass: its signature without the parameters that the worker fills in.

    Raises:
        TypeError: It has none.
        ValueError: It is a built-in without one.
    """
    signature = inspect.signature(function)
    if is_plain(function):
        return signature
    left = [each for each in signature.parameters.values() if not _is_filled_in(function, each)]
    return signature if len(left) == len(signature.parameters) else signature.replace(parameters=left)


def _is_filled_in(function: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    try:
        return marker_of(function, parameter, "") is not None
    except ConfigurationError:  # what it names is not there, or not yet; the worker will tell
        return True


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether a look suffices: neither annotations nor defaults could hold a marker."""
    return type(function) is types.FunctionType and not (
        function.__annotations__ or function.__defaults__ or function.__kwdefaults__
    )


def marker_of(function: Callable[..., Any], parameter: inspect.Parameter, label: str) -> Marker | None:
    """What a parameter is marked with, in its default or its annotation.

    Args:
        function: Whose parameter it is.
        parameter: The parameter.
        label: What messages call the function.

    Raises:
        ConfigurationError: Its annotation names what is not there.
    """
    if isinstance(parameter.default, Marker):
        return parameter.default
    hint: Any = parameter.annotation
    if isinstance(hint, str):
        hint = _evaluated(function, hint, parameter.name, label)
    if hasattr(hint, "__value__"):  # an alias made by `type X = …`
        hint = hint.__value__
    if typing.get_origin(hint) is not typing.Annotated:
        return None
    kind, *metadata = typing.get_args(hint)
    marker = next((each for each in reversed(metadata) if isinstance(each, Marker)), None)
    if isinstance(marker, OfLifespan) and marker.wanted is None and isinstance(kind, type):
        return OfLifespan(kind)
    return marker


def _evaluated(function: Callable[..., Any], hint: str, name: str, label: str) -> Any:
    """What an annotation stands for that is kept as text, one by one: others may not be readable here."""
    inner: Any = inspect.unwrap(function)
    if inspect.isclass(inner):
        inner = vars(inner).get("__init__")
    while hasattr(inner, "func"):  # a partial
        inner = inner.func
    inner = getattr(inner, "__func__", inner)
    if not isinstance(inner, types.FunctionType):
        inner = inspect.getattr_static(inner, "__call__", None)
    if not isinstance(inner, types.FunctionType):
        return None
    names = dict(inspect.getclosurevars(inner).nonlocals)
    holder = types.SimpleNamespace(__annotations__={name: hint})
    try:
        return typing.get_type_hints(holder, inner.__globals__, names, include_extras=True)[name]
    except Exception as error:
        if "Depends" in hint or "FromLifespan" in hint:
            raise ConfigurationError(
                f"the annotation {hint!r} of parameter {name!r} of {label} cannot be read: "
                f"{describe(error)}; define what it names at the top of the module, outside of "
                "`if TYPE_CHECKING`, or write it as the default: client: Client = Depends(get_client)"
            ) from error
        return None
