"""Envelopes around the bytes of a namespace: who may have written them, and which serializer reads them."""

from __future__ import annotations

from typing import Final

from sitq.envelope import Form, Opened, Purpose, open_envelope, reseal, seal
from sitq.exceptions import SerializationError
from sitq.keys import KeyRing
from sitq.parcel import Spilled
from sitq.record import Record
from sitq.serialization import (
    CloudpickleSerializer,
    JSONSerializer,
    MsgpackSerializer,
    Serializer,
    codec_name,
)

_MOST_FORMS: Final = 1000

_BUILT_IN: Final[dict[str, Serializer]] = {
    each.name: each for each in (CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer())
}


class Wrapper:
    """Puts bytes into envelopes for a task, and takes them out of it.

    Args:
        serializer: What writes the bytes.
        keys: Sign and verify, or None.
        namespace: Bound into every signature.
        trusted: Whether unsigned bytes that carry code may be loaded.
        most: The most bytes that an envelope may hold.

    Attributes:
        unsigned: Whether there is nothing to sign or to verify.
    """

    def __init__(
        self, serializer: Serializer, keys: KeyRing | None, namespace: str, *, trusted: bool, most: int
    ) -> None:
        self._serializer = serializer
        self._codec = codec_name(serializer)
        self._keys = keys
        self._namespace = namespace
        self._trusted = trusted
        self._most = most
        self.unsigned = keys is None and trusted
        self._forms: dict[tuple[Purpose, str, str], Form] = {}

    def seal(
        self, body: bytes, purpose: Purpose, task_id: str, queue: str, name: str, *, parcel: bool = False
    ) -> bytes:
        """The bytes in an envelope.

        Raises:
            SerializationError: They are too large.
        """
        if self.unsigned and not parcel:
            return self.form(purpose, queue, name).seal(body, task_id)
        return seal(
            body,
            purpose=purpose,
            namespace=self._namespace,
            queue=queue,
            task_id=task_id,
            name=name,
            codec=self._codec,
            keys=self._keys,
            limit=self._most,
            parcel=parcel,
        )

    def plain(self, data: bytes, purpose: Purpose, record: Record) -> bytes | None:
        """What is in an envelope of the usual kind, or None for any other, which `open` is for."""
        if not self.unsigned:
            return None
        return self.form(purpose, record.queue, record.name).open(data, record.id)

    def open(self, data: bytes, purpose: Purpose, record: Record, name: str | None = None) -> Opened:
        """What is in an envelope of a task, once it is known to belong there and to be trustworthy.

        Args:
            data: The envelope.
            purpose: What it has to be.
            record: The task.
            name: The name that it has to carry; by default that of the task's function.

        Raises:
            SignatureError: It is not to be trusted.
            SerializationError: It is damaged.
        """
        owner = record.payload_of if purpose == "task" else None
        return open_envelope(
            data,
            purpose=purpose,
            namespace=self._namespace,
            queue=record.queue,
            task_id=owner or record.id,
            names=(name or record.name,),
            codec=None,
            keys=self._keys,
            trusted=self._trusted,
            limit=self._most,
        )

    def reseal(self, record: Record, task_id: str, moved: Spilled | None) -> bytes:
        """The payload of a task in an envelope for another one: verified, sealed anew, never loaded.

        Args:
            record: The task.
            task_id: The other one.
            moved: Where the other one's payload lies, if it lies in a file.

        Raises:
            SignatureError: It is not to be trusted, or is signed and there is no key here.
        """
        return reseal(
            record.payload,
            purpose="task",
            namespace=self._namespace,
            queue=record.queue,
            task_id=record.payload_of or record.id,
            names=(record.name,),
            keys=self._keys,
            trusted=self._trusted,
            limit=self._most,
            to_task_id=task_id,
            moved=moved,
        )

    def serializer_named(self, name: str | None) -> Serializer:
        """The serializer that reads a codec: the own one, or a built-in one.

        Raises:
            SerializationError: There is none of that name here.
        """
        if name is None or name == self._codec:
            return self._serializer
        serializer = _BUILT_IN.get(name)
        if serializer is None:
            raise SerializationError(
                f"it was written by the serializer {name!r}; pass that serializer here, too"
            )
        return serializer

    def form(self, purpose: Purpose, queue: str, name: str) -> Form:
        """The prepared envelope of a function in a queue, where there is nothing to sign or to verify."""
        forms = self._forms
        form = forms.get((purpose, queue, name))
        if form is None:
            if len(forms) >= _MOST_FORMS:
                forms.clear()
            form = Form(purpose, self._namespace, queue, name, self._codec, limit=self._most)
            forms[purpose, queue, name] = form
        return form
