"""Moulds: what the usual tasks of one function in one queue have in common, found out once for all."""

from __future__ import annotations

from sitq.envelope import Form
from sitq.functions import Naming
from sitq.preview import preview
from sitq.record import Record
from sitq.shape import Shape


class Mould:
    """Makes the records of calls that have positional arguments and no options.

    Args:
        naming: How the function is named: by its name alone, without rules of its parameters.
        shape: Its shape: it takes so many arguments and no other number, and none of them is secret.
        queue: The queue.
        form: The envelope of the payloads.

    Attributes:
        naming: The same.
        queue: The same.
        exact: How many arguments it takes.
    """

    __slots__ = ("_form", "_shape", "exact", "naming", "queue")

    def __init__(self, naming: Naming, shape: Shape, queue: str, form: Form) -> None:
        self.naming = naming
        self.queue = queue
        self.exact = shape.exact
        self._shape = shape
        self._form = form

    def cast(self, task_id: str, args: tuple[object, ...], body: bytes, reply: str | None) -> Record:
        """The record of a new task whose call was serialized.

        Raises:
            SerializationError: The call is too large, or the task id too long.
        """
        return Record(
            id=task_id,
            queue=self.queue,
            name=self.naming.name,
            payload=self._form.seal(body, task_id),
            preview=preview(args, {}, self._shape) if args else "",
            reply=reply,
        )
