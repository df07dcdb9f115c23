"""`@task`: a function that can be called as before, and enqueued."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import FunctionType, MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from sitq import functions, validation
from sitq.exceptions import ConfigurationError, ValidationError
from sitq.functions import Decorated
from sitq.handle import TaskHandle
from sitq.keywords import FunctionOptions, GivenOptions
from sitq.options import NO_OPTIONS, Options, make_options, overlay

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


_ELSEWHERE: Final = {
    **dict.fromkeys(["delay", "send", "kiq", "defer", "defer_async"], "await {}.enqueue(…)"),
    **dict.fromkeys(
        ["apply_async", "send_with_options", "kicker", "configure", "schedule"],
        "await {}.options(…).enqueue(…)",
    ),
    **dict.fromkeys(["s", "si", "signature", "message"], "Task({}, args)"),
}
"""What other task queues call the methods of their functions."""


class Enqueues(Protocol):
    """What a decorated function needs of the queue that it belongs to."""

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""
        ...

    async def enqueue_call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> str:
        """Enqueue one call that is given as data."""
        ...

    async def submit_call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> TaskHandle[Any]:
        """Enqueue one call that is given as data, and return a handle of it."""
        ...


class TaskFunction(Decorated, Generic[P, R, T]):
    """A function with options, and the queue that it belongs to.

    Calling it calls the function. In a class it is a method like any other, and enqueued from an instance it
    takes that along as its first argument. It is pickled by its name where it has one.

    Attributes:
        function: The function itself.
        defaults: The options of its tasks; those of a call are laid over them.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self, function: Callable[..., Any], defaults: Options = NO_OPTIONS, queue: Enqueues | None = None
    ) -> None:
        inner: Any = function
        kind = next((each for each in (classmethod, staticmethod) if isinstance(function, each)), None)
        inner = functions.plain(validation.function(inner.__func__ if kind else inner))
        functools.update_wrapper(self, inner)
        self.kind = kind
        self.function = inner
        self.origin = self
        self.defaults = defaults
        self.queue = queue
        self.first: tuple[Any, ...] = ()
        if inspect.iscoroutinefunction(inner):
            _mark(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        call: Callable[..., R] = self.function
        return call(*self.first, *args, **kwargs)

    async def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Enqueue one call in the queue that the function belongs to, and return its id.

        Every keyword goes to the function. See `TaskQueue.enqueue`.

        Raises:
            ConfigurationError: It belongs to no queue.
        """
        return await self.bound_queue().enqueue_call(self, args, kwargs, NO_OPTIONS)

    async def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[T]:
        """Enqueue one call, and return a handle of it: `await` that for the value.

        Raises:
            ConfigurationError: The function belongs to no queue.
        """
        return await self.bound_queue().submit_call(self, args, kwargs, NO_OPTIONS)

    def options(self, **options: Unpack[GivenOptions]) -> Self:
        """The same function with options laid over its own: `send.options(delay=60).enqueue(…)`.

        Raises:
            ValidationError: An option is unknown (the nearest one is named) or not acceptable.
        """
        return self.variant(defaults=make_options(self.defaults, options))

    def bound_queue(self) -> Enqueues:
        """The queue that the function belongs to.

        Raises:
            ConfigurationError: There is none.
        """
        queue: Enqueues | None = self.origin.queue
        if queue is None:
            label = functions.name_of(self).name.rpartition(":")[2]
            raise ConfigurationError(
                f"{label} belongs to no queue: decorate it with @queue.task, include it with "
                f"queue.include({label}), or call queue.enqueue({label}, …)"
            )
        return queue

    if not TYPE_CHECKING:  # checkers are to know what there is

        def __getattr__(self, name: str) -> Any:
            """Who writes what another task queue calls it is told what it is called here."""
            instead = _ELSEWHERE.get(name)
            if instead is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            label = vars(self).get("__name__", "function")
            raise AttributeError(f"a task function has no {name}; write {instead.format(label)}")

    # To a type checker a class method is a function that takes the class first. `self` is said as what it is
    # called like, since mypy 2.4 finds no first parameter in a `TaskFunction[Concatenate[S, Q], R, T]`.
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], Coroutine[Any, Any, T]], instance: object, owner: type[S], /
    ) -> TaskFunction[Q, Coroutine[object, object, T], T]: ...

    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: object, owner: type[S], /
    ) -> TaskFunction[Q, R, R]: ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...

    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[S, Q], Coroutine[Any, Any, T]], instance: S, owner: type | None = None, /
    ) -> TaskFunction[Q, Coroutine[object, object, T], T]: ...

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> TaskFunction[Q, R, R]: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> Self: ...

    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        if self.kind is classmethod:
            return self._bound(type(instance) if owner is None else owner)
        if instance is None or self.kind is staticmethod or self.first:
            return self
        return self._bound(instance)

    def _bound(self, first: object) -> Self:
        return self.variant(first=(first,), __wrapped__=MethodType(self.function, first))

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self is not self.origin:
            return _vary, (self.origin, self.first, self.defaults)
        if functions.is_found(self):
            return str(self.__qualname__)
        naming = functions.name_of(self)
        name = None if naming.by_value else naming.name
        return _remake, (self.function, name, self.defaults, self.kind)

    def __repr__(self) -> str:
        return f"<task function {functions.name_of(self).name}>"


# What a decorated async function returns is said with `object` for `Any`: mypy would see `Any` where such a
# function goes into an overloaded call such as `once(…)`.
Declare = Callable[[Callable[..., Any], str | None, Iterable[str], Options], TaskFunction[..., Any, Any]]


class Decorate(Protocol):
    """A decorator with its options given: what `@task(retry=3)` is."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> TaskFunction[P, Coroutine[object, object, T], T]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...

    def __call__(self, function: Any, /) -> Any:
        """Decorate a function."""
        ...


class TaskDecorator:
    """`@task` or `@task(retry=3, timeout=30)`: the function can be enqueued, and called as before.

    Beside the options of a task it takes `name`, the name stored in tasks (by default `module:qualname`), and
    `aliases`, former names under which waiting tasks still find the function. Put it above all other
    decorators.

    Raises:
        ValidationError: A name is not usable, or an option unknown or not acceptable.
        ConfigurationError: Another function has one of these names.
    """

    def __init__(self, declare: Declare) -> None:
        self._declare = declare

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> TaskFunction[P, Coroutine[object, object, T], T]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...

    @overload
    def __call__(
        self, /, *, name: str | None = None, aliases: Iterable[str] = (), **options: Unpack[FunctionOptions]
    ) -> Decorate: ...

    def __call__(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        **options: Any,
    ) -> Any:
        """Decorate a function, or take the options for it."""
        defaults = function_options(options)
        if function is not None:
            return self._declare(function, name, aliases, defaults)

        def decorate(function: Callable[..., Any]) -> TaskFunction[..., Any, Any]:
            return self._declare(function, name, aliases, defaults)

        return decorate


def declare(
    function: Callable[..., Any],
    name: str | None = None,
    aliases: Iterable[str] = (),
    defaults: Options = NO_OPTIONS,
    queue: Enqueues | None = None,
) -> TaskFunction[..., Any, Any]:
    """What the decorators do, as a call."""
    return functions.register(TaskFunction(function, defaults, queue), name=name, aliases=aliases)


def function_options(given: Mapping[str, Any]) -> Options:
    """Options for all tasks of a function.

    Raises:
        ValidationError: One of them is unknown or not acceptable, or is about one task only.
    """
    for name in ("id", "depends_on"):
        if given.get(name):
            raise ValidationError(
                f"{name} is about one task; give it to .options({name}=…) where that is enqueued"
            )
    return make_options(NO_OPTIONS, given)


def called(
    function: Callable[..., Any], args: Sequence[Any], options: Options
) -> tuple[Callable[..., Any], Sequence[Any], Options]:
    """What is enqueued for a call: a decorated function's options and instance come from itself.

    Raises:
        ValidationError: The function cannot be called.
    """
    if type(function) is FunctionType:
        return function, args, options
    found: Any = function
    inner: object = getattr(found, "__func__", None)
    if isinstance(inner, Decorated):  # from Python 3.13 on, a classmethod made of a decorated function
        found = inner.variant(first=(found.__self__,))
    if isinstance(found, TaskFunction):
        one = cast("TaskFunction[..., Any, Any]", found)
        return one.origin, (*one.first, *args), overlay(one.defaults, options)
    return validation.function(function), args, options


task = TaskDecorator(declare)


def _mark(function: TaskFunction[..., Any, Any]) -> None:
    """Let `iscoroutinefunction` see an async function in what it was decorated to."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:  # from Python 3.12 on
        mark(function)
    else:
        vars(function)["_is_coroutine"] = getattr(asyncio.coroutines, "_is_coroutine", None)


def _vary(
    origin: TaskFunction[..., Any, Any], first: tuple[Any, ...], defaults: Options
) -> TaskFunction[..., Any, Any]:
    return origin.variant(first=first, defaults=defaults)


def _remake(
    function: Callable[..., Any], name: str | None, defaults: Options, kind: Callable[..., Any] | None
) -> TaskFunction[..., Any, Any]:
    made: TaskFunction[..., Any, Any] = TaskFunction(function if kind is None else kind(function), defaults)
    if name is not None:
        functions.call_it(made, name)
    return made
