"""A parcel: what is inside an envelope that holds more than a serializer's bytes.

    length of the manifest   4 bytes, big-endian
    manifest                 MessagePack: encrypted arguments; where the body is, if it lies elsewhere
    body                     the serializer's bytes, or nothing if they lie elsewhere

The envelope's flag says that its payload is one, and its signature covers all of it.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from sitq.exceptions import SerializationError

__all__ = ["Manifest", "Spilled", "unwrap", "wrap"]

_LENGTH: Final = Struct(">I")


class Spilled(msgspec.Struct, frozen=True, array_like=True):
    """A body that lies in a file.

    Attributes:
        name: Of the file, in the folder that the readers are configured with.
        size: Its bytes.
        digest: Their SHA-256.
    """

    name: str
    size: int
    digest: bytes


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """What a parcel says about its content.

    Attributes:
        key_id: The key that the secrets are encrypted under, or "".
        secrets: The places of encrypted arguments in the call, and their ciphertexts.
        spilled: Where the body is, if not here.
    """

    key_id: str = ""
    secrets: tuple[tuple[str, bytes], ...] = ()
    spilled: Spilled | None = None


_manifest = msgspec.msgpack.Decoder(Manifest)


def wrap(manifest: Manifest, body: bytes) -> bytes:
    """A manifest and a body as one payload."""
    head = msgspec.msgpack.encode(manifest)
    return b"".join((_LENGTH.pack(len(head)), head, body))


def unwrap(payload: bytes) -> tuple[Manifest, bytes]:
    """The manifest and the body of a payload.

    Raises:
        SerializationError: It is damaged.
    """
    try:
        (length,) = _LENGTH.unpack_from(payload)
        end = _LENGTH.size + length
        if end > len(payload):
            raise ValueError("it is cut short")  # noqa: TRY301 - one answer to all damage
        return _manifest.decode(payload[_LENGTH.size : end]), payload[end:]
    except Exception as error:
        raise SerializationError(f"the parcel in the envelope is damaged: {error}", cause=error) from error
