"""Calls and results as stored bytes, and back: serializer, envelope and trust in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sitq import functions
from sitq.envelope import Opened, Purpose, open_envelope, seal
from sitq.exceptions import SerializationError
from sitq.keys import KeyRing
from sitq.options import NO_OPTIONS, Options
from sitq.policy.retry import as_data
from sitq.preview import preview
from sitq.record import DAY, Record
from sitq.serialization import (
    MAX_PAYLOAD,
    CloudpickleSerializer,
    JSONSerializer,
    MsgpackSerializer,
    Serializer,
    carries_code,
    check_size,
    codec_name,
    dumps_call,
    loads_call,
)

_BUILT_IN: Final[dict[str, Serializer]] = {
    each.name: each for each in (CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer())
}


@dataclass(frozen=True, slots=True)
class Codec:
    """What a queue or worker needs to write and read the bytes of a namespace's tasks.

    Attributes:
        serializer: Writes; reads whatever it or a built-in serializer wrote.
        keys: Sign and verify, or None.
        namespace: Bound into every signature.
        trusted: Whether unsigned bytes that carry code may be loaded.
        most: The largest payload or result in bytes.
    """

    serializer: Serializer = field(default_factory=CloudpickleSerializer)
    keys: KeyRing | None = None
    namespace: str = "sitq"
    trusted: bool = True
    most: int = MAX_PAYLOAD

    def record(
        self,
        task_id: str,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Options = NO_OPTIONS,
        *,
        queue: str = "default",
        reply: str | None = None,
    ) -> Record:
        """The record of a new task.

        Raises:
            SerializationError: An argument cannot be serialized (it is named), or all are too large.
        """
        naming = functions.name_of(function)
        body = dumps_call(
            self.serializer,
            args,
            kwargs,
            function if naming.by_value else None,
            target=function,
        )
        lane = options.queue or queue
        record = Record(
            id=task_id,
            queue=lane,
            name=naming.name,
            payload=self._seal(check_size(body, self.most), "task", task_id, lane, naming.name),
            preview=preview(args, kwargs),
            reply=reply,
            python=functions.python_version() if naming.by_value else None,
        )
        if options is not NO_OPTIONS:
            _apply(options, record)
        return record

    def call(self, record: Record) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """The function and arguments of a claimed task.

        Raises:
            UnknownFunctionError: This process does not know the function.
            SignatureError: The payload is not to be trusted.
            SerializationError: The payload cannot be read.
        """
        opened = self._open(record.payload, "task", record)
        serializer = self.serializer_named(opened.codec)
        if record.python is None:
            function = functions.resolve(record.name, registered_only=not carries_code(serializer))
            call = loads_call(serializer, opened.payload)
            return function, call.args, call.kwargs
        call = loads_call(serializer, opened.payload)
        if call.function is None:
            raise SerializationError(f"the payload of task {record.id} holds no function", task_id=record.id)
        return call.function, call.args, call.kwargs

    def result(self, record: Record, value: Any) -> bytes:
        """What a task returned, as stored bytes.

        Raises:
            SerializationError: It cannot be serialized, or is too large.
        """
        body = check_size(self.serializer.dumps(value), self.most, "result")
        return self._seal(body, "result", record.id, record.queue, record.name)

    def value(self, record: Record) -> tuple[bytes, str]:
        """The serializer's bytes in a completed task's result, verified, and the serializer's name.

        Raises:
            SignatureError: The result is not to be trusted.
        """
        opened = self._open(record.result or b"", "result", record)
        return opened.payload, opened.codec

    def serializer_named(self, name: str | None) -> Serializer:
        """The serializer that reads a codec: the own one, or a built-in one.

        Raises:
            SerializationError: There is none of that name here.
        """
        if name is None or name == codec_name(self.serializer):
            return self.serializer
        serializer = _BUILT_IN.get(name)
        if serializer is None:
            raise SerializationError(
                f"it was written by the serializer {name!r}; pass that serializer here, too"
            )
        return serializer

    def _open(self, data: bytes, purpose: Purpose, record: Record) -> Opened:
        return open_envelope(
            data,
            purpose=purpose,
            namespace=self.namespace,
            queue=record.queue,
            task_id=record.id,
            names=(record.name,),
            codec=None,
            keys=self.keys,
            trusted=self.trusted,
            limit=self.most,
        )

    def _seal(self, body: bytes, purpose: Purpose, subject: str, queue: str, name: str) -> bytes:
        return seal(
            body,
            purpose=purpose,
            namespace=self.namespace,
            queue=queue,
            task_id=subject,
            name=name,
            codec=codec_name(self.serializer),
            keys=self.keys,
            limit=self.most,
        )


def _apply(options: Options, record: Record) -> None:
    record.priority = options.priority
    record.due = options.eta or 0
    record.delay = options.delay
    record.ttl = options.ttl
    record.deadline = options.deadline
    record.timeout = options.timeout
    record.retry = as_data(options.retry)
    record.keep = DAY if options.result_ttl is None else options.result_ttl
    record.tags = options.tags
