"""Calls and results as stored bytes, and back: serializer, envelope and trust in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from sitq import functions
from sitq.envelope import Form, Opened, Purpose, open_envelope, seal
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

if TYPE_CHECKING:
    from sitq.backends.base import Backend

_MOST_FORMS: Final = 1000

_BUILT_IN: Final[dict[str, Serializer]] = {
    each.name: each for each in (CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer())
}


class Codec:
    """What a queue or worker needs to write and read the bytes of a namespace's tasks.

    Args:
        serializer: Writes; reads whatever it or a built-in serializer wrote.
        keys: Sign and verify, or None.
        namespace: Bound into every signature.
        trusted: Whether unsigned bytes that carry code may be loaded.
        most: The largest payload or result in bytes.
    """

    def __init__(
        self,
        serializer: Serializer,
        keys: KeyRing | None = None,
        *,
        namespace: str = "sitq",
        trusted: bool = True,
        most: int = MAX_PAYLOAD,
    ) -> None:
        self._serializer = serializer
        self._name = codec_name(serializer)
        self._carries_code = carries_code(serializer)
        self._keys = keys
        self._namespace = namespace
        self._trusted = trusted
        self._most = most
        self._resolved: dict[tuple[str, bool], Callable[..., Any]] = {}
        self._forms: dict[tuple[Purpose, str, str], Form] = {}

    @classmethod
    def of(
        cls, backend: Backend, serializer: Serializer | None, keys: KeyRing | None, *, trust_store: bool
    ) -> Self:
        """The codec for a backend's tasks, with the defaults of queues and workers."""
        return cls(
            serializer or CloudpickleSerializer(),
            KeyRing.from_environment() if keys is None else keys,
            namespace=backend.namespace,
            trusted=backend.traits.local or trust_store,
            most=backend.traits.max_payload,
        )

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
        # A registered function of a script goes by its name where code cannot go along.
        by_value = naming.by_value and not (naming.registered and not self._carries_code)
        body = dumps_call(self._serializer, args, kwargs, function if by_value else None, target=function)
        lane = options.queue or queue
        record = Record(
            id=task_id,
            queue=lane,
            name=naming.name,
            payload=self._seal(check_size(body, self._most), "task", task_id, lane, naming.name),
            preview=preview(args, kwargs, function),
            reply=reply,
            python=functions.python_version() if by_value else None,
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
        form = self._form("task", record.queue, record.name)
        payload = None if form is None else form.open(record.payload, record.id)
        serializer = self._serializer
        if payload is None:
            opened = self._open(record.payload, "task", record)
            payload, serializer = opened.payload, self.serializer_named(opened.codec)
        if record.python is None:
            function = self._resolve(record.name, registered_only=not carries_code(serializer))
            call = loads_call(serializer, payload)
            return function, call.args, call.kwargs
        call = loads_call(serializer, payload)
        if call.function is None:
            raise SerializationError(f"the payload of task {record.id} holds no function", task_id=record.id)
        return call.function, call.args, call.kwargs

    def result(self, record: Record, value: Any) -> bytes:
        """What a task returned, as stored bytes.

        Raises:
            SerializationError: It cannot be serialized, or is too large.
        """
        body = check_size(self._serializer.dumps(value), self._most, "result")
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
        if name is None or name == self._name:
            return self._serializer
        serializer = _BUILT_IN.get(name)
        if serializer is None:
            raise SerializationError(
                f"it was written by the serializer {name!r}; pass that serializer here, too"
            )
        return serializer

    def _resolve(self, name: str, *, registered_only: bool) -> Callable[..., Any]:
        function = self._resolved.get((name, registered_only))
        if function is None:
            function = functions.resolve(name, registered_only=registered_only)
            self._resolved[name, registered_only] = function
        return function

    def _open(self, data: bytes, purpose: Purpose, record: Record) -> Opened:
        return open_envelope(
            data,
            purpose=purpose,
            namespace=self._namespace,
            queue=record.queue,
            task_id=record.id,
            names=(record.name,),
            codec=None,
            keys=self._keys,
            trusted=self._trusted,
            limit=self._most,
        )

    def _form(self, purpose: Purpose, queue: str, name: str) -> Form | None:
        """The prepared envelope, where there is nothing to sign or to verify."""
        if self._keys is not None or not self._trusted:
            return None
        forms = self._forms
        form = forms.get((purpose, queue, name))
        if form is None:
            if len(forms) >= _MOST_FORMS:
                forms.clear()
            form = Form(purpose, self._namespace, queue, name, self._name, limit=self._most)
            forms[purpose, queue, name] = form
        return form

    def _seal(self, body: bytes, purpose: Purpose, subject: str, queue: str, name: str) -> bytes:
        form = self._form(purpose, queue, name)
        if form is not None:
            return form.seal(body, subject)
        return seal(
            body,
            purpose=purpose,
            namespace=self._namespace,
            queue=queue,
            task_id=subject,
            name=name,
            codec=self._name,
            keys=self._keys,
            limit=self._most,
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
