"""Flows: tasks that belong together, wired by plain calls and enqueued in one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from sitq.core import Task
from sitq.exceptions import ValidationError
from sitq.parents import Parent


class Flow(Sequence[Task]):
    """Tasks wired by `chain` or `group`: a sequence for `enqueue_many` and `submit_many`.

    Attributes:
        tasks: All of them; a task comes after those that it waits for.
        value: What the flow comes to, to be passed as an argument: a chain's last value, or the list of a
            group's values in order.
    """

    __slots__ = ("_heads", "tasks", "value")

    def __init__(self, tasks: Sequence[Task], heads: frozenset[str], value: Any) -> None:
        self.tasks = tuple(tasks)
        self._heads = heads
        self.value = value
        twice = _twice(task.id for task in self.tasks)
        if twice:
            raise ValidationError(
                f"task {twice[0]} is in the flow twice; make a Task for each place", task_id=twice[0]
            )

    def after(self, value: Any, *, pass_values: bool = True) -> Flow:
        """The same flow behind others: the tasks that begin it take `value` as their first argument.

        Args:
            value: Tasks, alone or in lists, as `Flow.value` has them.
            pass_values: Whether it becomes an argument; otherwise it is waited for and no more.
        """
        tasks = [_after(task, value, pass_values) if task.id in self._heads else task for task in self.tasks]
        return Flow(tasks, self._heads, self.value)

    @property
    def heads(self) -> frozenset[str]:
        """The ids of the tasks that begin it."""
        return self._heads

    @overload
    def __getitem__(self, index: int) -> Task: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...

    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        return self.tasks[index]

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"<Flow of {len(self.tasks)} tasks>"


Step = Task | Flow
"""What flows are made of."""


def chain(*steps: Step | Iterable[Step], pass_values: bool = True) -> Flow:
    """Tasks one after another, each with the value of the one before it as its first argument.

    A step may be a group: each of its members takes the value before it, and the step behind it takes the
    list of their values in order. The tasks that are given stay as they are; those of the flow have the same
    ids.

    Args:
        steps: `Task` objects and flows, as arguments or as one list.
        pass_values: Whether values are passed on; otherwise each step only waits for the one before it.

    Raises:
        ValidationError: A step is something else, there is none, or a task is there twice.
    """
    first, *others = _steps(steps, "chain")
    tasks, value = list(first), first.value
    for step in others:
        behind = step.after(value, pass_values=pass_values)
        tasks += behind
        value = behind.value
    return Flow(tasks, first.heads, value)


def group(*members: Step | Iterable[Step]) -> Flow:
    """Tasks side by side; what they come to is the list of their values, in this order.

    Args:
        members: `Task` objects and flows, as arguments or as one list.

    Raises:
        ValidationError: A member is something else, there is none, or a task is there twice.
    """
    flows = _steps(members, "group")
    heads = frozenset[str]().union(*(flow.heads for flow in flows))
    return Flow([task for flow in flows for task in flow], heads, [flow.value for flow in flows])


def _steps(given: Sequence[Any], what: str) -> list[Flow]:
    steps: list[Any] = []
    for each in given:
        if isinstance(each, Task | Flow) or not isinstance(each, Iterable) or isinstance(each, str | Mapping):
            steps.append(each)
        else:
            every: Iterable[Any] = each  # pyright: ignore[reportUnknownVariableType] - the edge
            steps += every
    if not steps:
        raise ValidationError(f"this {what} is empty; it needs at least one Task")
    for step in steps:
        if not isinstance(step, Task | Flow):
            raise ValidationError(
                f"a {what} is made of Task objects and flows, not of {type(step).__name__}; "
                f"write Task(function, args)"
            )
    return [step if isinstance(step, Flow) else Flow([step], frozenset({step.id}), step) for step in steps]


def _after(task: Task, value: Any, pass_values: bool) -> Task:  # noqa: FBT001 - the caller's own word
    if pass_values:
        return task.replace(args=(value, *task.args))
    before: Any = task.options.depends_on  # edges already, which nobody else has
    return task.replace(depends_on=[*before, *_parents(value)])


def _parents(value: Any) -> Iterator[Parent]:
    if isinstance(value, Parent):
        yield value
    else:
        for item in value:
            yield from _parents(item)


def _twice(ids: Iterable[str]) -> list[str]:
    return [id for id, times in Counter(ids).items() if times > 1]
