"""The envelope around every payload in a store: what it is for, and who vouches for it.

    header   magic, version, flags, purpose, lengths          18 bytes, big-endian
    fields   key id, namespace, queue, name, codec, task id   UTF-8, as long as the header says
    payload  what the serializer made
    seal     HMAC-SHA-256 over all of the above               32 bytes, where the flag says so

The context is compared and the seal verified before one byte of the payload is interpreted.
docs/reference/stored-format-envelope.md writes the format down.
"""

import hmac
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from sitq.exceptions import SerializationError, SignatureError, UnknownKeyError
from sitq.keys import VARIABLE, KeyRing
from sitq.parcel import Spilled
from sitq.sealing import rebound
from sitq.serialization import MAX_PAYLOAD, check_size

__all__ = ["SAFE_CODECS", "Form", "Opened", "Purpose", "open_envelope", "reseal", "seal"]

Purpose = Literal["task", "result", "error", "step", "schedule"]
"""What a payload is; one sealed for one purpose is refused for every other."""

SAFE_CODECS: Final = frozenset({"json", "msgpack"})
"""Codecs whose bytes can be loaded from anybody."""

_MAGIC = b"SITQ"
_VERSION = 1
_SIGNED = 1
_PARCEL = 2
_FLAGS_AT = 5
_SEAL_BYTES = 32
# magic, version, flags, purpose; lengths of key id, namespace, queue, name, codec, task id and payload
_HEADER = Struct(">4sBBBBBBHBBI")
_HEADER_BYTES = _HEADER.size
_TASK = Struct(">BI")  # its last two lengths, the only ones that differ from task to task
_TASK_AT = _HEADER_BYTES - _TASK.size
_CODEC_AT = 12
_LIKELY_CODECS = {bytes([len(codec)]): codec for codec in ("cloudpickle", "json", "msgpack")}
_FIELDS = ("key id", "namespace", "queue", "name", "codec")
_LONGEST = (0xFF, 0xFF, 0xFF, 0xFFFF, 0xFF)
_CODES: dict[str, int] = {purpose: code for code, purpose in enumerate(get_args(Purpose), 1)}
_PURPOSES = {code: purpose for purpose, code in _CODES.items()}


class Opened(msgspec.Struct, frozen=True, gc=False):
    """What was in an envelope; `key_id` is None for an unsigned one.

    `parcel` says that the payload is a parcel (see `sitq.parcel`) and not just a serializer's bytes.
    """

    payload: bytes
    codec: str
    name: str
    key_id: str | None
    parcel: bool = False


def seal(
    payload: bytes,
    *,
    purpose: Purpose,
    namespace: str,
    queue: str,
    task_id: str,
    name: str,
    codec: str,
    keys: KeyRing | None = None,
    limit: int = MAX_PAYLOAD,
    parcel: bool = False,
) -> bytes:
    """The payload in an envelope, signed with the first key of the ring if there is one.

    Raises:
        SerializationError: The payload has more than `limit` bytes, or a field is too long.
    """
    if len(payload) > limit:
        check_size(payload, limit, purpose)
    key_id = "" if keys is None else keys.first
    head, fields = _lane(purpose, key_id, namespace, queue, name, codec)
    if parcel:
        head = b"%b%c%b" % (head[:_FLAGS_AT], head[_FLAGS_AT] | _PARCEL, head[_FLAGS_AT + 1 :])
    identity = task_id.encode()
    if len(identity) > _LONGEST[0]:
        raise SerializationError(f"the task id has {len(identity)} bytes, more than {_LONGEST[0]}")
    sealed = b"".join((head, _TASK.pack(len(identity), len(payload)), fields, identity, payload))
    if keys is None:
        return sealed
    return sealed + keys.sign(sealed, key_id=key_id, purpose=purpose)


def open_envelope(
    data: bytes | bytearray | memoryview,
    *,
    purpose: Purpose,
    namespace: str,
    queue: str,
    task_id: str,
    names: Sequence[str] | None,
    codec: str | None,
    keys: KeyRing | None = None,
    trusted: bool = False,
    limit: int = MAX_PAYLOAD,
) -> Opened:
    """What is in an envelope, once it is known to belong here and to be trustworthy.

    A signature that is present is verified whenever there are keys. An unsigned payload is taken if the
    store is trusted, or if there are no keys here and its codec is one of `SAFE_CODECS`.

    Args:
        data: The stored bytes.
        purpose: What the payload has to be.
        namespace: Whose store it was read from.
        queue: The queue of the task it was read for.
        task_id: That task.
        names: The names it may carry, the likeliest first: the function's with its aliases, or the step's;
            None for any.
        codec: The codec it has to be written with, that is the one it will be loaded with; None only for
            one who chooses the serializer by `Opened.codec`, or loads nothing.
        keys: The keys that are known here.
        trusted: Nobody else can write to the store, or the user vouches for those who can.
        limit: The most bytes that a payload may have.

    Raises:
        SignatureError: It is not to be trusted, or belongs to something else.
        SerializationError: It is damaged, too large, or written in a way unknown here.
    """
    data = data if type(data) is bytes else _as_bytes(data)
    if names and (likely := codec or _LIKELY_CODECS.get(data[_CODEC_AT : _CODEC_AT + 1])):
        # The one case that is frequent: in order, and signed with the first key or with none.
        key_id = None if keys is None else keys.first
        name = names[0]
        head, fields = _lane(purpose, key_id or "", namespace, queue, name, likely)
        if data.startswith(fields, _HEADER_BYTES) and data.startswith(head):
            identity = task_id.encode()
            id_bytes, size = _TASK.unpack_from(data, _TASK_AT)
            start = _HEADER_BYTES + len(fields) + id_bytes
            end = start + size
            if (
                id_bytes == len(identity)
                and data.startswith(identity, start - id_bytes)
                and size <= limit
                and len(data) == (end if keys is None else end + _SEAL_BYTES)
            ):
                if keys is not None:
                    _verify(data, end, keys, keys.first, purpose, task_id=task_id)
                elif not trusted and likely not in SAFE_CODECS:
                    raise _distrust(purpose, likely, task_id)
                return Opened(data[start:end], likely, name, key_id)
    found = _parse(data, limit, task_id)
    _compare("purpose", purpose, found.purpose, task_id)
    _compare("namespace", namespace, found.namespace, task_id)
    _compare("queue", queue, found.queue, task_id)
    _compare("task", task_id, found.task_id, task_id)
    if names is not None and found.name not in names:
        _compare("name", " or ".join(names), found.name, task_id)
    _admit(found, keys, trusted=trusted)
    if codec is not None and codec != found.codec:
        raise SerializationError(
            f"the {purpose} is written with {found.codec!a}, but is to be read with {codec!a}; "
            f"give both sides the same serializer",
            task_id=task_id,
        )
    return Opened(data[found.start : found.end], found.codec, found.name, found.key_id, found.parcel)


class Form:
    """The unsigned envelopes of one function in one queue: what is the same in all of them, prepared.

    Writes and reads what `seal` and `open_envelope` do, for half of their price.
    """

    __slots__ = ("_fields", "_head", "_id_at", "_limit", "_purpose")

    def __init__(
        self, purpose: Purpose, namespace: str, queue: str, name: str, codec: str, *, limit: int = MAX_PAYLOAD
    ) -> None:
        self._head, self._fields = _lane(purpose, "", namespace, queue, name, codec)
        self._id_at = _HEADER_BYTES + len(self._fields)
        self._limit = limit
        self._purpose = purpose

    def seal(self, payload: bytes, task_id: str) -> bytes:
        """The payload in an envelope.

        Raises:
            SerializationError: The payload is too large, or the task id too long.
        """
        identity = task_id.encode()
        size = len(payload)
        if size > self._limit:
            check_size(payload, self._limit, self._purpose)
        if len(identity) > _LONGEST[0]:
            raise SerializationError(f"the task id has {len(identity)} bytes, more than {_LONGEST[0]}")
        return b"".join((self._head, _TASK.pack(len(identity), size), self._fields, identity, payload))

    def open(self, data: bytes, task_id: str) -> bytes | None:
        """The payload of an envelope of this form, or None for any other, of which `open_envelope` tells."""
        if not (data.startswith(self._head) and data.startswith(self._fields, _HEADER_BYTES)):
            return None
        identity = task_id.encode()
        id_bytes, size = _TASK.unpack_from(data, _TASK_AT)
        start = self._id_at + id_bytes
        if (
            id_bytes == len(identity)
            and len(data) == start + size
            and size <= self._limit
            and data.startswith(identity, self._id_at)
        ):
            return data[start:]
        return None


def reseal(
    data: bytes | bytearray | memoryview,
    *,
    purpose: Purpose,
    namespace: str,
    queue: str,
    task_id: str,
    names: Sequence[str] | None,
    keys: KeyRing | None = None,
    trusted: bool = False,
    limit: int = MAX_PAYLOAD,
    to_purpose: Purpose | None = None,
    to_namespace: str | None = None,
    to_queue: str | None = None,
    to_task_id: str | None = None,
    to_name: str | None = None,
    moved: Spilled | None = None,
) -> bytes:
    """The payload of an envelope in a new one, for another task; it is verified and never loaded.

    Args are those of `open_envelope`; what no `to_…` changes stays as it was. Secret arguments are encrypted
    anew, for the new task and with the first key. Of a payload that lies in a file, `moved` says where that
    of the new task lies.

    Raises:
        SignatureError: The old envelope is not to be trusted, or is signed and there is no key here to
            sign the new one.
        SerializationError: The old envelope is damaged, or a payload too large, or it lies in a file and
            `moved` does not say where that of the new task is.
    """
    opened = open_envelope(
        data,
        purpose=purpose,
        namespace=namespace,
        queue=queue,
        task_id=task_id,
        names=names,
        codec=None,
        keys=keys,
        trusted=trusted,
        limit=limit,
    )
    if opened.key_id is not None and keys is None:
        raise SignatureError(
            f"the {purpose} is signed, and its copy could not be, as there is no key here; set {VARIABLE}",
            task_id=task_id,
        )
    payload = opened.payload
    if opened.parcel:
        payload = rebound(
            payload,
            keys,
            (namespace, task_id),
            (to_namespace or namespace, to_task_id or task_id),
            moved=moved,
        )
    return seal(
        payload,
        purpose=to_purpose or purpose,
        namespace=to_namespace or namespace,
        queue=to_queue or queue,
        task_id=to_task_id or task_id,
        name=to_name or opened.name,
        codec=opened.codec,
        keys=keys,
        limit=limit,
        parcel=opened.parcel,
    )


@lru_cache(maxsize=1024)
def _lane(  # noqa: PLR0917 - a cache is faster without keywords
    purpose: str, key_id: str, namespace: str, queue: str, name: str, codec: str
) -> tuple[bytes, bytes]:
    """What the envelopes of one function in one queue share: the start of the header, and the fields."""
    fields = [text.encode() for text in (key_id, namespace, queue, name, codec)]
    for what, field, longest in zip(_FIELDS, fields, _LONGEST, strict=True):
        if len(field) > longest:
            raise SerializationError(f"the {what} has {len(field)} bytes, more than {longest}")
    flags = _SIGNED if key_id else 0
    header = _HEADER.pack(_MAGIC, _VERSION, flags, _CODES[purpose], *map(len, fields), 0, 0)
    return header[:_TASK_AT], b"".join(fields)


class _Found(NamedTuple):
    """What an envelope says about itself, and where its payload is."""

    purpose: str
    key_id: str | None
    namespace: str
    queue: str
    name: str
    codec: str
    task_id: str
    start: int
    end: int
    data: bytes
    parcel: bool


def _parse(data: bytes, limit: int, task_id: str) -> _Found:
    """Read header and fields; lengths are checked before anything is cut out by them."""
    if not data.startswith(_MAGIC):
        raise SerializationError("this is no envelope: it does not start with SITQ", task_id=task_id)
    if len(data) < _HEADER_BYTES:
        raise SerializationError(f"the envelope is truncated: it has {len(data)} bytes", task_id=task_id)
    _, version, flags, code, *lengths, size = _HEADER.unpack_from(data)
    if version != _VERSION or flags & ~(_SIGNED | _PARCEL) or code not in _PURPOSES:
        raise SerializationError(
            f"the envelope has version {version}, flags {flags:#x} and purpose {code}, of which this sitq "
            f"knows version {_VERSION} only; upgrade sitq here",
            task_id=task_id,
        )
    if size > limit:
        raise SerializationError(
            f"the payload has {size:,} bytes, more than the limit of {limit:,}", task_id=task_id
        )
    start = _HEADER_BYTES + sum(lengths)
    end = start + size
    signed = bool(flags & _SIGNED)
    if len(data) != end + _SEAL_BYTES * signed or (lengths[0] > 0) != signed:
        whole = "truncated" if len(data) < end + _SEAL_BYTES * signed else "damaged"
        raise SerializationError(
            f"the envelope is {whole}: it has {len(data):,} bytes, its header asks for "
            f"{end + _SEAL_BYTES * signed:,}",
            task_id=task_id,
        )
    texts: list[str] = []
    at = _HEADER_BYTES
    try:
        for length in lengths:
            texts.append(data[at : at + length].decode())
            at += length
    except UnicodeDecodeError as error:
        raise SerializationError(
            "the envelope is damaged: a field is not UTF-8", task_id=task_id, cause=error
        ) from error
    key_id, namespace, queue, name, codec, owner = texts
    return _Found(
        _PURPOSES[code],
        key_id or None,
        namespace,
        queue,
        name,
        codec,
        owner,
        start,
        end,
        data,
        bool(flags & _PARCEL),
    )


def parcel_of(data: bytes) -> bytes | None:
    """What is in an envelope that says that it holds a parcel, or None. Nothing of it is verified."""
    try:
        found = _parse(data, len(data), "")
    except SerializationError:
        return None
    return data[found.start : found.end] if found.parcel else None


def _compare(what: str, wanted: str, found: str, task_id: str) -> None:
    if wanted != found:
        raise SignatureError(
            f"the envelope belongs to the {what} {found!a}, not to {wanted!a}; "
            f"it was moved there by somebody else than sitq",
            task_id=task_id,
        )


def _admit(found: _Found, keys: KeyRing | None, *, trusted: bool) -> None:
    """Apply the rule of what may be loaded."""
    if keys is not None and found.key_id is not None:
        _verify(found.data, found.end, keys, found.key_id, found.purpose, task_id=found.task_id)
    elif trusted:
        return
    elif found.key_id is not None and found.codec not in SAFE_CODECS:
        raise SignatureError(
            f"the {found.purpose} is signed with the key {found.key_id!a}, and there is no key here to "
            f"verify it; set {VARIABLE}",
            task_id=found.task_id,
        )
    elif keys is not None:
        raise SignatureError(
            f"the {found.purpose} is not signed, but keys are configured here; give its producer the same "
            f"{VARIABLE}, or accept what is in this store with trust_store=True",
            task_id=found.task_id,
        )
    elif found.codec not in SAFE_CODECS:
        raise _distrust(found.purpose, found.codec, found.task_id)


def _verify(data: bytes, end: int, keys: KeyRing, key_id: str, purpose: str, *, task_id: str) -> None:
    try:
        expected = keys.sign(data[:end], key_id=key_id, purpose=purpose)
    except KeyError:
        raise UnknownKeyError(
            f"the {purpose} is signed with the key {key_id!a}, which is not among those here; "
            f"add it to {VARIABLE} behind the first one",
            task_id=task_id,
        ) from None
    if not hmac.compare_digest(expected, data[end:]):
        raise SignatureError(
            f"the signature of the {purpose} does not fit: it was changed, or its key {key_id!a} is another "
            f"one than here",
            task_id=task_id,
        )


def _distrust(purpose: str, codec: str, task_id: str) -> SignatureError:
    return SignatureError(
        f"the {purpose} is written with {codec!a}, which can run any code, and is not signed, while others "
        f"can write to this store; set {VARIABLE} for producers and workers, use JSONSerializer, "
        f"or accept what is in this store with trust_store=True",
        task_id=task_id,
    )


def _as_bytes(data: object) -> bytes:
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    if isinstance(data, memoryview):
        return data.tobytes()
    raise SerializationError(f"this is no envelope but {type(data).__qualname__}")
