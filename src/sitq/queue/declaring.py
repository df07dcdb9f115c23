"""Functions that belong to a queue: declared in place, or included from a router."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from sitq.decorator import TaskDecorator, TaskFunction, declare, function_options
from sitq.keywords import FunctionOptions
from sitq.options import Options
from sitq.queue.submitting import Submitting
from sitq.router import TaskRouter, include


class Declaring(Submitting):
    """Declares functions whose tasks go into this queue."""

    @property
    def task(self) -> TaskDecorator:
        """The decorator `@queue.task` or `@queue.task(retry=3, …)`: `sitq.task` for functions of this queue.

        `await function.enqueue(…)` then needs no queue, and has its arguments checked by type checkers.
        """
        return TaskDecorator(self._declare)

    def include(
        self,
        routed: TaskRouter | TaskFunction[..., Any, Any],
        prefix: str = "",
        **options: Unpack[FunctionOptions],
    ) -> None:
        """Let the functions of a router, or one with `@task`, belong to this queue.

        Args:
            routed: The router or the function.
            prefix: Goes before the names stored in tasks. Tasks that wait under the former name are found.
            options: Options for all of them; those that the router or the function has are laid over these.

        Raises:
            ConfigurationError: A function belongs to another queue that is not closed.
            ValidationError: It is neither router nor function, or the prefix or an option not acceptable.
        """
        include(self, routed, prefix, function_options(options))

    def _declare(
        self, function: Callable[..., Any], name: str | None, aliases: Iterable[str], defaults: Options
    ) -> TaskFunction[..., Any, Any]:
        return declare(function, name, aliases, defaults, self)
