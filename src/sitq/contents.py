"""What lies in an envelope beside the plain bytes: encrypted arguments, and bodies that lie in files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sitq.arguments import place_key
from sitq.exceptions import BackendError, SerializationError, ValidationError
from sitq.keys import KeyRing
from sitq.parcel import Manifest, Spilled, unwrap, wrap
from sitq.record import Record
from sitq.sealing import decrypt, encrypt, needed
from sitq.secret import texts_of
from sitq.serialization import Serializer, check_size, codec_name
from sitq.serialization.places import holds_parent
from sitq.shape import NO_SHAPE, Shape
from sitq.spill import AwayError, NoPlaceError, SpillRoom, files_of, reference

__all__ = ["Contents"]

logger = logging.getLogger("sitq.spill")


class Contents:
    """Writes and reads parcels for one codec.

    Attributes:
        hidden: The texts of the secrets of tasks that run here, by the tasks' ids; they are kept out of what
            is recorded of them.
        pending: Bodies that were given a reference and have to be written before it is stored, by task.
        above: Bytes of a body from which on it does not go into the envelope as it is.
    """

    def __init__(self, keys: KeyRing | None, namespace: str, most: int, room: SpillRoom | None) -> None:
        self._keys = keys
        self._namespace = namespace
        self._most = most
        self._room = room
        self.hidden: dict[str, tuple[str, ...]] = {}
        self.pending: dict[str, tuple[Spilled, bytes]] = {}
        self.above = most if room is None else min(most, room.spill.above)

    @property
    def spills(self) -> bool:
        """Whether there is a place for large bodies."""
        return self._room is not None

    def packed(
        self,
        body: bytes,
        purpose: str,
        task_id: str,
        secrets: Sequence[tuple[str, Any]] = (),
        serializer: Serializer | None = None,
        *,
        shape: Shape = NO_SHAPE,
    ) -> tuple[bytes, bool]:
        """What goes into the envelope, and whether it is a parcel.

        Raises:
            SerializationError: It is too large, or a secret cannot be serialized.
            ConfigurationError: There are secrets, and no key or no library to encrypt them with.
        """
        spilled: Spilled | None = None
        if self._room is None or len(body) <= self.above:
            check_size(body, self._most, purpose.replace("task", "payload"))
        else:
            check_size(body, self._room.spill.most, purpose.replace("task", "payload"))
            spilled = self.spill(body, purpose, task_id)
            body = b""
        sealed: list[tuple[str, bytes]] = []
        key_id = ""
        if secrets and serializer is not None:
            keys = needed(self._keys, "an argument")
            key_id = keys.first
            for place, value in secrets:
                data = _secret_bytes(serializer, value, shape.named_at(place_key(place)))
                sealed.append(
                    (place, encrypt(data, keys, namespace=self._namespace, task_id=task_id, place=place))
                )
        if spilled is None and not sealed:
            return body, False
        return check_size(wrap(Manifest(key_id, tuple(sealed), spilled), body), self._most), True

    def spill(self, body: bytes, purpose: str, task_id: str) -> Spilled:
        """Where a body will lie once `flush` has written it."""
        spilled = reference(purpose, task_id, body)
        self.pending[task_id] = spilled, body
        return spilled

    def unpacked(self, payload: bytes, task_id: str, fetched: bytes | None) -> tuple[Manifest, bytes]:
        """The manifest of a parcel, and the serializer's bytes.

        Raises:
            AwayError: They lie in a file; `fetched` is what `fetch` reads there.
            SerializationError: It is damaged.
        """
        manifest, body = unwrap(payload)
        if manifest.spilled is None:
            return manifest, body
        if fetched is None:
            raise AwayError(manifest.spilled, task_id)
        return manifest, fetched

    def revealed(self, manifest: Manifest, task_id: str, loads: Callable[[bytes], Any]) -> dict[str, Any]:
        """The secrets of a task by their places.

        Raises:
            UnknownKeyError: The key is not here.
            SignatureError: One was changed or moved.
        """
        found: dict[str, Any] = {}
        for place, data in manifest.secrets:
            plain = decrypt(
                data, self._keys, manifest.key_id, namespace=self._namespace, task_id=task_id, place=place
            )
            try:
                found[place] = loads(plain)
            except SerializationError as error:
                raise SerializationError(
                    f"the secret argument in the place {place!a} cannot be loaded here",
                    task_id=task_id,
                    cause=error.cause if isinstance(error.cause, ImportError) else None,
                ) from None
        return found

    def hide(self, task_id: str, secrets: Mapping[str, Any]) -> None:
        """Keep the texts of secrets out of what is recorded of a task from now on."""
        self.hidden[task_id] = tuple(texts_of(list(secrets.values())))

    def check(self, record: Record) -> None:
        """Refuse what spilled payloads cannot do: the file of one goes with its own task.

        Raises:
            ValidationError: The payload may be given to another task.
        """
        unique = record.unique
        if (
            record.id in self.pending
            and unique is not None
            and unique.clash == "replace"
            and "payload" in unique.fields
        ):
            del self.pending[record.id]
            raise ValidationError(
                f"the arguments of a task that may replace those of another one under the key {unique.key!r} "
                f"are not spilled; keep them smaller than {self.above:,} bytes, or pass their path"
            )

    async def flush(self, task_ids: Iterable[str]) -> None:
        """Write the bodies of these tasks that are pending.

        Raises:
            BackendError: One cannot be written; none of them is to be referred to.
        """
        found = [self.pending.pop(one, None) for one in task_ids]
        pending = [one for one in found if one is not None]
        if pending and self._room is not None:
            await self._room.write(pending)

    async def fetch(self, error: AwayError) -> bytes:
        """The body that lies elsewhere, verified.

        Raises:
            NoPlaceError: Nobody told this process where it is.
            LostError: It is not there, or is not what was spilled.
            BackendError: The place cannot be read now.
        """
        if self._room is None:
            raise NoPlaceError(
                f"it was spilled as {error.spilled.name}, and this process does not know where to; "
                f"give it the spill=Spill(…) of its producer",
                task_id=error.task_id,
            )
        return await self._room.read(error.spilled, error.task_id or "")

    async def forget(self, records: Iterable[Record]) -> None:
        """Remove the files of tasks whose records have been deleted; what cannot be removed now is swept."""
        names = [
            name for record in records for name in files_of(record.id, record.payload, record.result or b"")
        ]
        if not names or self._room is None:
            return
        try:
            await self._room.remove(names)
        except BackendError as error:
            logger.warning("the files of deleted tasks are left to the sweep: %s", error)

    def watch(self, record: Record, result: bytes | None, seconds: float) -> None:
        """Remove the files of a task that has ended soon after its record, which is kept for so long.

        Where that is longer than the sweep spares files of tasks that are gone, nothing is to be done.
        """
        if self._room is not None and seconds < self._room.spill.grace:
            self._room.watch(files_of(record.id, record.payload, result or b""), record.id, seconds)

    async def sweep(self) -> int:
        """Remove some of the files that no task refers to any more; how many were removed."""
        return 0 if self._room is None else await self._room.sweep()


def _secret_bytes(serializer: Serializer, value: Any, where: str) -> bytes:
    try:
        return serializer.dumps(value)
    except SerializationError as error:
        # The reason may quote the value.
        if holds_parent(value):
            remedy = "; the value of another task is an argument of its own"
        else:
            remedy = (
                "; it is secret, so no more is said. Give what that takes, with no Secret(…) inside of it"
            )
        raise SerializationError(
            f"{where}, which is secret, of type {type(value).__qualname__}, cannot be serialized by "
            f"{codec_name(serializer)}{remedy}"
        ) from (error if isinstance(error.cause, ImportError) else None)
