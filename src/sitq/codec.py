"""Calls and results as stored bytes, and back: functions, serializer and envelope in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from sitq import functions
from sitq.arguments import Prepared, holds_secret, prepare, put_secret, restore
from sitq.arity import check_call
from sitq.contents import Contents
from sitq.exceptions import SerializationError, ValidationError
from sitq.imprint import Call, imprint, refuse_to_wait
from sitq.keys import KeyRing
from sitq.mould import Mould
from sitq.options import NO_OPTIONS, Options
from sitq.parcel import Manifest, Spilled
from sitq.parents import KINDS, ParentMetError
from sitq.preview import preview
from sitq.record import Edge, Record
from sitq.serialization import (
    MAX_PAYLOAD,
    CloudpickleSerializer,
    Serializer,
    carries_code,
    check_size,
    dumps_call,
    dumps_call_with_parents,
    loads_call,
)
from sitq.serialization.packing import Packing, packing_of
from sitq.serialization.places import has_direct, take_direct
from sitq.shape import shape_of
from sitq.spill import Spill, SpillRoom
from sitq.wrapper import Wrapper

if TYPE_CHECKING:
    from sitq.backends.base import Backend

_MOST_MOULDS: Final = 1000


class Codec:
    """What a queue or worker needs to write and read the bytes of a namespace's tasks.

    Args:
        serializer: Writes; reads whatever it or a built-in serializer wrote.
        keys: Sign and verify, or None.
        namespace: Bound into every signature.
        trusted: Whether unsigned bytes that carry code may be loaded.
        most: The largest payload or result in bytes.
        room: Where larger ones lie, or None.
    """

    def __init__(
        self,
        serializer: Serializer,
        keys: KeyRing | None = None,
        *,
        namespace: str = "sitq",
        trusted: bool = True,
        most: int = MAX_PAYLOAD,
        room: SpillRoom | None = None,
    ) -> None:
        self.contents = Contents(keys, namespace, most, room)
        self._most_inside = self.contents.above
        self.wrapper = Wrapper(serializer, keys, namespace, trusted=trusted, most=most)
        self._packing = packing_of(serializer)
        self._serializer = serializer
        self._carries_code = carries_code(serializer)
        self._most = most
        self.prepare: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
        """Answers what is called in the place of a function that a task names; asked once for each."""
        self._resolved: dict[tuple[str, bool], Callable[..., Any]] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        self._moulds: dict[int, Mould] = {}

    @classmethod
    def of(
        cls,
        backend: Backend,
        serializer: Serializer | None,
        keys: KeyRing | None,
        *,
        trust_store: bool,
        spill: Spill | None = None,
    ) -> Self:
        """The codec for a backend's tasks, with the defaults of queues and workers."""
        return cls(
            serializer or CloudpickleSerializer(),
            KeyRing.from_environment() if keys is None else keys,
            namespace=backend.namespace,
            trusted=backend.traits.local or trust_store,
            most=backend.traits.max_payload,
            room=None if spill is None else SpillRoom(spill, backend),
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
        exact: bool = True,
    ) -> Record:
        """The record of a new task; where `contents.pending` is not empty then, it is to be flushed first.

        Args are those of the call, and `exact` unless a worker's middleware may still make them fit.

        Raises:
            SerializationError: An argument cannot be serialized (it is named), or all are too large.
            ValidationError: The function does not take such a call, or an argument does not fit its
                annotation (it is named).
            ConfigurationError: An argument is secret, and there is no key or no library to encrypt it with.
        """
        naming = functions.name_of(function)
        body: bytes | None = None
        if options is NO_OPTIONS and not kwargs:
            mould = self._moulds.get(id(naming))
            if mould is None or mould.naming is not naming or mould.queue != queue:
                mould = self._new_mould(function, naming, queue)
            if mould is not None and mould.exact == len(args):
                args = tuple(args)
                met: dict[str, str] = {}
                body = self._usual_body(args, met)
                if body is not None and len(body) <= self._most_inside:
                    record = mould.cast(task_id, args, body, reply)
                    if met:
                        _depend(record, met)
                    return record
                if met:
                    body = None  # the long way notes the parents itself
        return self._record(
            task_id,
            function,
            naming,
            args,
            kwargs,
            options,
            queue=queue,
            reply=reply,
            exact=exact,
            body=body,
        )

    def _record(  # noqa: C901, PLR0917 - each branch is one `if` of a plain task
        self,
        task_id: str,
        function: Callable[..., Any],
        naming: functions.Naming,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Options,
        *,
        queue: str,
        reply: str | None,
        exact: bool,
        prepared: Prepared | None = None,
        body: bytes | None = None,
    ) -> Record:
        if naming.registered:
            function = functions.plain(function)
        shape = shape_of(function)
        if exact and (kwargs or len(args) != shape.exact):
            check_call(function, args, kwargs)
        if prepared is None and (shape.secret or (shape.typed and self._packing is not None)):
            prepared = prepare(function, shape, self._packing, args, kwargs)
        secrets: Sequence[tuple[str, Any]] = ()
        shown_args, shown_kwargs = args, kwargs
        if prepared is not None:
            args, kwargs, secrets, shown_args, shown_kwargs = prepared
        # A registered function of a script goes by its name where code cannot go along.
        by_value = naming.by_value and not (naming.registered and not self._carries_code)
        carried = function if by_value else None
        parents: dict[str, str] | None = None
        try:
            if body is None:
                body, parents = self._serialized(args, kwargs, carried, function)
        except SerializationError as error:
            if prepared is None and holds_secret(args, kwargs):
                call = prepare(function, shape, self._packing, args, kwargs)
                return self._record(
                    task_id,
                    function,
                    naming,
                    args,
                    kwargs,
                    options,
                    queue=queue,
                    reply=reply,
                    prepared=call,
                    exact=exact,
                )
            if not isinstance(error, ParentMetError):
                raise
            body, parents = dumps_call_with_parents(self._serializer, args, kwargs, carried, target=function)
        lane = options.queue or queue
        parcel = False
        if secrets or len(body) > self._most_inside:
            body, parcel = self.contents.packed(body, "task", task_id, secrets, self._serializer, shape=shape)
        record = Record(
            id=task_id,
            queue=lane,
            name=naming.name,
            payload=self.wrapper.seal(body, "task", task_id, lane, naming.name, parcel=parcel),
            preview=preview(shown_args, shown_kwargs, shape),
            reply=reply,
            python=functions.python_version() if by_value else None,
        )
        if options is not NO_OPTIONS or naming.rules:
            imprint(options, record, Call(function, shown_args, shown_kwargs, naming.rules))
        if parents is not None or parcel:
            self.contents.check(record)
            _depend(record, parents or {})
        return record

    def _serialized(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        carried: Callable[..., Any] | None,
        function: Callable[..., Any],
    ) -> tuple[bytes, dict[str, str] | None]:
        if has_direct(args, kwargs):
            return dumps_call_with_parents(self._serializer, args, kwargs, carried, target=function)
        return dumps_call(self._serializer, args, kwargs, carried, target=function), None

    def _usual_body(self, args: tuple[Any, ...], met: dict[str, str]) -> bytes | None:
        """The serialized call with these arguments, or None if there is something unusual about them.

        Arguments that are parents are noted in `met`.
        """
        call: tuple[Any, ...] = (args, {})
        for value in args:
            if type(value) in KINDS:
                if not self._carries_code:
                    return None
                call = take_direct(args, {}, met)
                break
        try:
            body: object = self._serializer.dumps(call)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the long way says what is wrong
            return None
        return body if type(body) is bytes else None

    def _new_mould(self, function: Callable[..., Any], naming: functions.Naming, queue: str) -> Mould | None:
        """The mould of a function's usual tasks; None if it has none."""
        if not (naming.is_plain and self.wrapper.unsigned):
            return None
        shape = shape_of(functions.plain(function))
        packed = shape.typed and self._packing is not None
        if shape.exact < 0 or shape.secret or packed or functions.name_of(function) is not naming:
            return None
        if len(self._moulds) >= _MOST_MOULDS:
            self._moulds.clear()
        mould = Mould(naming, shape, queue, self.wrapper.form("task", queue, naming.name))
        self._moulds[id(naming)] = mould
        return mould

    def following(self, record: Record, task_id: str, name: str, args: tuple[Any, ...]) -> Record:
        """The record of a task that another one brings with it when it ends, in the same queue.

        The name comes from a record, so where others could have written it, it must be registered here:
        what is signed here is to be no stranger's choice.

        Raises:
            UnknownFunctionError: It is not.
            SerializationError: The arguments cannot be serialized.
        """
        if not self.wrapper.unsigned:
            functions.resolve(name, registered_only=True)
        body = check_size(dumps_call(self._serializer, args, {}), self._most)
        return Record(
            id=task_id,
            queue=record.queue,
            name=name,
            payload=self.wrapper.seal(body, "task", task_id, record.queue, name),
            preview=preview(args, {}),
            priority=record.priority,
            trace=record.trace,
        )

    def resealed(self, record: Record, task_id: str, fetched: bytes | None = None) -> bytes:
        """The payload of a task for another one that does the same: verified, sealed anew, never loaded.

        Secrets are encrypted anew. Where it lies in a file, the new task gets one of its own:
        `contents.pending` is to be flushed before the new task is stored, which `Session.put` does.

        Raises:
            AwayError: It lies in a file; `fetched` is what it asks for.
            SignatureError: It is not to be trusted, or is signed and there is no key here.
        """
        opened = self.wrapper.open(record.payload, "task", record)
        moved: Spilled | None = None
        if opened.parcel:
            manifest, body = self.contents.unpacked(opened.payload, record.payload_of or record.id, fetched)
            if manifest.spilled is not None:
                moved = self.contents.spill(body, "task", task_id)
        return self.wrapper.reseal(record, task_id, moved)

    def call(
        self, record: Record, values: Mapping[str, Any] | None = None, fetched: bytes | None = None
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """The function and arguments of a claimed task.

        Args:
            record: The task.
            values: The values of its `inputs`, by their ids; None if it has none.
            fetched: The bytes that lie in a file, once they are asked for by an `AwayError`.

        Raises:
            AwayError: The arguments lie in a file.
            UnknownFunctionError: This process does not know the function.
            SignatureError: The payload is not to be trusted.
            SerializationError: The payload cannot be read.
        """
        payload = self.wrapper.plain(record.payload, "task", record)
        serializer, packing, manifest = self._serializer, self._packing, None
        carries = self._carries_code
        if payload is None:
            opened = self.wrapper.open(record.payload, "task", record)
            payload, serializer = opened.payload, self.wrapper.serializer_named(opened.codec)
            packing, carries = packing_of(serializer), carries_code(serializer)
            if opened.parcel:
                manifest, payload = self.contents.unpacked(payload, record.payload_of or record.id, fetched)
        function = None
        if record.python is None:
            function = self._resolve(record.name, registered_only=not carries)
        carried, args, kwargs = loads_call(serializer, payload, values)
        if function is None:
            if carried is None:
                message = f"the payload of task {record.id} holds no function"
                raise SerializationError(message, task_id=record.id)
            function = carried if self.prepare is None else self.prepare(carried)
        if manifest is not None and manifest.secrets:
            args = self._with_secrets(manifest, record, args, kwargs, serializer)
        if packing is not None:
            called = carried or self._functions.get(record.name, function)
            shape = shape_of(called)
            if shape.typed:
                args, kwargs = restore(called, shape, packing, args, kwargs)
        return function, args, kwargs

    def _with_secrets(
        self,
        manifest: Manifest,
        record: Record,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        serializer: Serializer,
    ) -> tuple[Any, ...]:
        places = list(args)
        owner = record.payload_of or record.id
        secrets = self.contents.revealed(manifest, owner, serializer.loads)
        self.contents.hide(record.id, secrets)
        for place, value in secrets.items():
            put_secret(places, kwargs, place, value)
        return tuple(places)

    def result(self, record: Record, value: Any) -> bytes:
        """What a task returned, as stored bytes; `contents.pending` is to be flushed before they are stored.

        A value that does not fit what its function says it returns is stored as it is, if it can be.

        Raises:
            SerializationError: It cannot be serialized, or is too large.
        """
        if self._packing is not None:
            value = self._packed_result(self._packing, record, value)
        body = self._serializer.dumps(value)
        if len(body) > self._most_inside:
            body, parcel = self.contents.packed(body, "result", record.id)
            return self.wrapper.seal(body, "result", record.id, record.queue, record.name, parcel=parcel)
        return self.wrapper.seal(body, "result", record.id, record.queue, record.name)

    def _packed_result(self, packing: Packing, record: Record, value: Any) -> Any:
        function = functions.known(record.name)
        slot = None if function is None else shape_of(function).result
        if slot is None or not slot.typed:
            return value
        try:
            return packing.pack(value, slot.hint)
        except (ValidationError, SerializationError):
            return value

    def value(self, record: Record, fetched: bytes | None = None) -> tuple[bytes, str]:
        """The serializer's bytes in a completed task's result, verified, and the serializer's name.

        Raises:
            AwayError: The result lies in a file; `fetched` is what it asks for.
            SignatureError: The result is not to be trusted.
        """
        opened = self.wrapper.open(record.result or b"", "result", record)
        if opened.parcel:
            return self.contents.unpacked(opened.payload, record.id, fetched)[1], opened.codec
        return opened.payload, opened.codec

    def returned(self, record: Record, fetched: bytes | None = None) -> Any:
        """What a completed task returned, as its serializer gives it back.

        Raises:
            AwayError: The result lies in a file; `fetched` is what it asks for.
            SignatureError: The result is not to be trusted.
            SerializationError: The bytes cannot be read here.
        """
        data = self.wrapper.plain(record.result or b"", "result", record)
        if data is not None:
            return self._serializer.loads(data)
        data, codec = self.value(record, fetched)
        return self.wrapper.serializer_named(codec).loads(data)

    def step(self, record: Record, name: str, value: Any) -> bytes:
        """What a step of a task returned, as stored bytes.

        Raises:
            SerializationError: It cannot be serialized, or is too large.
        """
        try:
            body = check_size(self._serializer.dumps(value), self._most, "step")
        except SerializationError as error:
            message = f"what step {name} returned cannot be kept: {error}"
            raise SerializationError(message, task_id=record.id, operation="once", cause=error) from error
        return self.wrapper.seal(body, "step", record.id, record.queue, name)

    def step_value(self, record: Record, name: str, data: bytes) -> Any:
        """What a step returned, as it was kept.

        Raises:
            SignatureError: It is not what a worker kept.
            SerializationError: It cannot be read here.
        """
        opened = self.wrapper.open(data, "step", record, name)
        return self.wrapper.serializer_named(opened.codec).loads(opened.payload)

    def loads_result(self, data: bytes, codec: str | None, name: str | None) -> Any:
        """The value in a result, as what its function says that it returns, if that is known here.

        Where the function is unknown, or the value does not fit, it is what the serializer gives back.

        Raises:
            SerializationError: The bytes cannot be read here.
        """
        serializer = self.wrapper.serializer_named(codec)
        value = serializer.loads(data)
        packing = packing_of(serializer)
        function = None if packing is None or name is None else functions.known(name)
        if packing is None or function is None:
            return value
        slot = shape_of(function).result
        if slot is None or not slot.typed:
            return value
        try:
            return packing.unpack(value, slot.hint)
        except ValidationError:
            return value

    def _resolve(self, name: str, *, registered_only: bool) -> Callable[..., Any]:
        function = self._resolved.get((name, registered_only))
        if function is None:
            function = self._functions[name] = functions.resolve(name, registered_only=registered_only)
            if self.prepare is not None:
                function = self.prepare(function)
            self._resolved[name, registered_only] = function
        return function


def _depend(record: Record, parents: Mapping[str, str]) -> None:
    """Let a task wait for the parents in its call; what `depends_on` says of one of them holds."""
    if not parents:
        return
    if record.unique is not None:
        refuse_to_wait(record.unique, next(iter(parents)), value=True)
    said = {edge.parent for edge in record.edges} if record.edges else ()
    record.inputs += tuple([id for id in parents if id not in record.inputs])
    record.edges += tuple([Edge(id, effects) for id, effects in parents.items() if id not in said])
