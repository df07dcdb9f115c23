"""Routers: functions of a large application, declared where they are and given to a queue later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from sitq import functions, validation
from sitq.decorator import Enqueues, TaskDecorator, TaskFunction, function_options
from sitq.exceptions import ConfigurationError, ValidationError
from sitq.keywords import FunctionOptions
from sitq.options import Options, overlay


class TaskRouter:
    """Collects functions without a queue at hand: `@router.task`, and later `queue.include(router)`.

    Args:
        prefix: Goes before the names of its functions, and makes names of those that were given none:
            `mail.` makes `mail.send` of `send`. The former name stays as an alias.
        options: Options for all tasks of its functions; those of a function are laid over them.

    Raises:
        ValidationError: The prefix is no name, or an option not acceptable.
    """

    def __init__(self, prefix: str = "", **options: Unpack[FunctionOptions]) -> None:
        self.prefix = _prefix(prefix)
        self.defaults: Options = function_options(options)
        self._functions: dict[TaskFunction[..., Any, Any], str | None] = {}

    @property
    def task(self) -> TaskDecorator:
        """`@router.task` or `@router.task(retry=3, …)`. See `sitq.task`."""
        return TaskDecorator(self._declare)

    def include(
        self,
        other: TaskRouter | TaskFunction[..., Any, Any],
        prefix: str = "",
        **options: Unpack[FunctionOptions],
    ) -> None:
        """Take in the functions of another router, or one function, as they are by now.

        Raises:
            ValidationError: It is neither, or an option or the prefix is not acceptable.
        """
        before, defaults = self.prefix + _prefix(prefix), overlay(self.defaults, function_options(options))
        for function, name in functions_of(other):
            self._functions[function] = _renamed(function, name, before, defaults)

    def functions(self) -> list[tuple[TaskFunction[..., Any, Any], str | None]]:
        """Its functions, each with the name that it was given, or None."""
        return list(self._functions.items())

    def _declare(
        self, function: Callable[..., Any], name: str | None, aliases: Iterable[str], defaults: Options
    ) -> TaskFunction[..., Any, Any]:
        made: TaskFunction[..., Any, Any] = TaskFunction(function, overlay(self.defaults, defaults))
        functions.register(made, name=name, aliases=aliases)
        self._functions[made] = _renamed(made, name, self.prefix, None)
        return made

    def __repr__(self) -> str:
        return f"<TaskRouter {self.prefix!r} of {len(self._functions)} functions>"


def include(
    queue: Enqueues,
    routed: TaskRouter | TaskFunction[..., Any, Any],
    prefix: str,
    defaults: Options,
) -> None:
    """Give functions to a queue. See `TaskQueue.include`."""
    before = _prefix(prefix)
    every = functions_of(routed)
    for function, _ in every:
        owner = function.queue
        if owner is not None and owner is not queue and not owner.closed:
            raise ConfigurationError(
                f"{function!r} belongs to {owner!r} already; for others use queue.enqueue(…)"
            )
    for function, name in every:
        _renamed(function, name, before, defaults)
        function.queue = queue


def functions_of(
    routed: TaskRouter | TaskFunction[..., Any, Any],
) -> list[tuple[TaskFunction[..., Any, Any], str | None]]:
    """The functions of a router, or one alone, each with the name that it was given.

    Raises:
        ValidationError: It is neither.
    """
    if isinstance(routed, TaskRouter):
        return routed.functions()
    if isinstance(routed, TaskFunction):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        naming = functions.name_of(routed.origin)
        return [(routed.origin, None if ":" in naming.name else naming.name)]
    raise ValidationError(
        f"a TaskRouter or a function with @task can be included, not {routed!r}; decorate it with @queue.task"
    )


def _renamed(
    function: TaskFunction[..., Any, Any], name: str | None, prefix: str, defaults: Options | None
) -> str | None:
    """Lay a function's options over those of where it is included, and put the prefix before its name."""
    if defaults is not None:
        function.defaults = overlay(defaults, function.defaults)
    if not prefix:
        return name
    label = prefix + (name or function.__qualname__)
    functions.register(function, name=label)
    return label


def _prefix(prefix: str) -> str:
    return validation.name(prefix, "prefix") if prefix else ""
