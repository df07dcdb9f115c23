"""What is provided for a function that wants something from its worker, read once from its signature."""

from __future__ import annotations

import contextlib
import inspect
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from sitq.dependencies import INJECTED, OfLifespan, Provided, Scope, is_plain, marker_of
from sitq.exceptions import ConfigurationError, ValidationError

Kind = Literal["function", "coroutine", "generator", "async generator", "manager", "async manager"]


@dataclass(frozen=True, slots=True)
class Need:
    """A parameter that the worker fills in.

    Attributes:
        name: The parameter.
        provider: Makes the value; None if the state of the lifespan is the source.
        wanted: What is wanted of the state: its class, a function of it, or None.
    """

    name: str
    provider: Provider | None = None
    wanted: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """A provider, analysed.

    Attributes:
        call: The user's function or class.
        kind: How its value is had and given back.
        scope: How long its value is used.
        needs: Its own parameters that are filled in.
        key: Equal for two that are the same, though they may have travelled with their tasks.
        label: What messages call it.
    """

    call: Callable[..., Any]
    kind: Kind
    scope: Scope
    needs: tuple[Need, ...]
    key: object
    label: str

    @property
    def is_async(self) -> bool:
        """Whether it has to be called in the event loop."""
        return self.kind in ("coroutine", "async generator", "async manager")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a function is given besides its caller's arguments.

    Attributes:
        needs: The parameters that are filled in.
        signature: What callers pass: the function's signature without those.
        full: The function's signature.
        shared: The providers that serve the whole worker, each after those that it needs.
        in_loop: Whether one of the others has to be called in the event loop.
    """

    needs: tuple[Need, ...]
    signature: inspect.Signature
    full: inspect.Signature
    shared: tuple[Provider, ...]
    in_loop: bool

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call, with the values in their places.

        Raises:
            TypeError: The caller's arguments do not fit.
        """
        values = self.signature.bind(*args, **kwargs).arguments | given
        ordered = OrderedDict((name, values[name]) for name in self.full.parameters if name in values)
        bound = inspect.BoundArguments(self.full, ordered)
        return bound.args, bound.kwargs


_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


Overrides = Mapping[Callable[..., Any], Callable[..., Any]]
"""Providers that stand in for others, by those: a test's, mostly."""


def checked_overrides(given: Overrides | None) -> Overrides:
    """Providers that stand in for others.

    Raises:
        ValidationError: One of either cannot be called.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"overrides must be a dictionary of providers, not {given!r}")
    for each in (*given, *given.values()):
        if not callable(each):
            raise ValidationError(
                f"overrides take providers for providers, as in {{get: other}}, not {each!r}"
            )
    return dict(given)


def plan_of(function: Callable[..., Any], overrides: Overrides = MappingProxyType({})) -> Plan | None:
    """What the worker fills in of a function's parameters; None for a plain function.

    Args:
        function: The function.
        overrides: Providers that stand in for others.

    Raises:
        ConfigurationError: A provider has a parameter that nobody fills in, needs itself, or is to serve the
            whole worker and needs what belongs to one attempt.
    """
    if is_plain(function):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in without a signature
        return None
    analysis = _Analysis(overrides)
    needs = analysis.needs(function, signature, _label(function))
    if not needs:
        return None
    names = {need.name for need in needs}
    visible = [each for name, each in signature.parameters.items() if name not in names]
    return Plan(
        needs=needs,
        signature=signature.replace(parameters=visible, return_annotation=signature.empty),
        full=signature,
        shared=tuple(each for each in analysis.known.values() if each.scope == "worker"),
        in_loop=any(each.is_async for each in analysis.known.values() if each.scope == "attempt"),
    )


class _Analysis:
    """Reads the signatures of a function and of all that provides for it."""

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = {_identity(one): other for one, other in overrides.items()}
        self.known: dict[object, Provider] = {}
        self._path: list[Callable[..., Any]] = []

    def needs(
        self, function: Callable[..., Any], signature: inspect.Signature, label: str
    ) -> tuple[Need, ...]:
        found: list[Need] = []
        for parameter in signature.parameters.values():
            marker = marker_of(function, parameter, label)
            match marker:
                case Provided():
                    found.append(Need(parameter.name, provider=self._provider(marker, label)))
                case OfLifespan():
                    found.append(Need(parameter.name, wanted=marker.wanted))
                case _ if parameter.default is INJECTED:
                    raise ConfigurationError(
                        f"parameter {parameter.name!r} of {label} is to be given by the worker, but nothing "
                        f"says how; write {parameter.name}: Annotated[…, Depends(…)] = INJECTED, or, where "
                        f"the annotation cannot be read, {parameter.name} = Depends(…)"
                    )
                case _:
                    continue
            if parameter.kind is parameter.POSITIONAL_ONLY or parameter.kind in _VARIABLE:
                raise ConfigurationError(
                    f"parameter {parameter.name!r} of {label} is {parameter.kind.description}; "
                    "only one that can be given by its name can be filled in"
                )
        return tuple(found)

    def _provider(self, marker: Provided, wanted_by: str) -> Provider:
        call = self._overrides.get(_identity(marker.provider), marker.provider)
        label = _label(call)
        if any(each is call for each in self._path):
            way = " → ".join([*(_label(each) for each in self._path), label])
            raise ConfigurationError(f"{label} needs itself: {way}")
        try:
            signature = inspect.signature(call)
        except (TypeError, ValueError):  # a built-in: it can be called without arguments, or says so itself
            signature = inspect.Signature()
        self._path.append(call)
        try:
            needs = self.needs(call, signature, label)
        finally:
            self._path.pop()
        _check_complete(signature, needs, label)
        if marker.scope == "worker":
            _check_shared(needs, label, wanted_by)
        key = (_identity(call), marker.scope, tuple(_key_of(need) for need in needs))
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = Provider(call, _kind(call), marker.scope, needs, key, label)
        return known


def _check_complete(signature: inspect.Signature, needs: tuple[Need, ...], label: str) -> None:
    names = {need.name for need in needs}
    for each in signature.parameters.values():
        if each.default is each.empty and each.kind not in _VARIABLE and each.name not in names:
            raise ConfigurationError(
                f"the provider {label} has a parameter {each.name!r} that nobody fills in; "
                f"give it a default, or a provider of its own: Annotated[…, Depends(…)]"
            )


def _check_shared(needs: tuple[Need, ...], label: str, wanted_by: str) -> None:
    for need in needs:
        if need.provider is not None and need.provider.scope == "attempt":
            raise ConfigurationError(
                f"{label}, which serves the whole worker for {wanted_by}, needs {need.provider.label}, "
                f'which belongs to one attempt; give that scope="worker", too'
            )


def _kind(call: Callable[..., Any]) -> Kind:
    if isinstance(call, type):
        if hasattr(call, "__aenter__"):
            return "async manager"
        return "manager" if hasattr(call, "__enter__") else "function"
    plain: Any = call
    while hasattr(plain, "func"):  # a partial
        plain = plain.func
    if not inspect.isroutine(plain):  # an object with a method __call__
        plain = type(plain).__call__
    if inspect.isasyncgenfunction(plain):
        return "async generator"
    if inspect.isgeneratorfunction(plain):
        return "generator"
    if inspect.iscoroutinefunction(plain):
        return "coroutine"
    # Decorated by contextmanager or asynccontextmanager: what it returns wants to be entered.
    decorated = inspect.unwrap(plain)
    if decorated is not plain and inspect.isasyncgenfunction(decorated):
        return "async manager"
    if decorated is not plain and inspect.isgeneratorfunction(decorated):
        return "manager"
    return "function"


def _identity(call: Callable[..., Any]) -> object:
    """What two copies of one function have in common: those of a script travel with each of its tasks."""
    if isinstance(call, types.FunctionType) and call.__closure__ is None:
        return call.__module__, call.__qualname__, call.__code__
    return id(call)


def _key_of(need: Need) -> object:
    if need.provider is not None:
        return need.name, need.provider.key
    wanted = need.wanted
    return need.name, _identity(wanted) if isinstance(wanted, types.FunctionType) else wanted


def _label(function: Callable[..., Any]) -> str:
    with contextlib.suppress(Exception):
        return f"{function.__module__}.{function.__qualname__}()"
    return f"{type(function).__qualname__}()"
