"""Encryption of secret arguments: AES-256-GCM, with a key for each task derived from the key ring.

The key comes from the ring's secret by HKDF-SHA-256 (RFC 5869), bound to namespace and task, so that no key
ever meets enough messages for their random nonces to collide. Namespace, task and place of the argument
are authenticated besides: a ciphertext that was moved elsewhere cannot be opened.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import Any, Final

from sitq.exceptions import ConfigurationError, SerializationError, SignatureError, UnknownKeyError
from sitq.keys import VARIABLE, KeyRing
from sitq.parcel import Manifest, Spilled, unwrap, wrap

__all__ = ["decrypt", "encrypt", "needed", "rebound"]

_NONCE_BYTES: Final = 12
_LENGTH: Final = Struct(">I")


def needed(keys: KeyRing | None, what: str) -> KeyRing:
    """The key ring, which has to be there.

    Raises:
        ConfigurationError: There is none, or no library to encrypt with.
    """
    _cipher()
    if keys is None:
        raise ConfigurationError(
            f"{what} is secret, and there is no key to encrypt it with; "
            f"set {VARIABLE} for producers and workers"
        )
    return keys


def encrypt(data: bytes, keys: KeyRing, *, namespace: str, task_id: str, place: str) -> bytes:
    """The data under the first key of the ring: a random nonce, then the ciphertext with its tag."""
    context = _joined(namespace, task_id)
    nonce = os.urandom(_NONCE_BYTES)
    cipher = _cipher()(keys.derive(keys.first, "secret", context))
    sealed: bytes = cipher.encrypt(nonce, data, context + _joined(place))
    return nonce + sealed


def decrypt(
    data: bytes, keys: KeyRing | None, key_id: str, *, namespace: str, task_id: str, place: str
) -> bytes:
    """What was encrypted for this place in this task.

    Raises:
        UnknownKeyError: The key is not here; another process may have it.
        SignatureError: It is damaged, or belongs elsewhere.
        ConfigurationError: There is no library to decrypt with.
    """
    if keys is None or key_id not in keys:
        raise UnknownKeyError(
            f"an argument is encrypted with the key {key_id!a}, which is not among those here; "
            f"add it to {VARIABLE} behind the first one",
            task_id=task_id,
        )
    context = _joined(namespace, task_id)
    cipher = _cipher()(keys.derive(key_id, "secret", context))
    try:
        opened: bytes = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context + _joined(place))
    except Exception:  # noqa: BLE001 - InvalidTag, or ValueError for one that is too short
        raise SignatureError(
            f"an encrypted argument cannot be opened: it was changed or moved, or its key {key_id!a} is "
            f"another one than here",
            task_id=task_id,
        ) from None
    return opened


def rebound(
    payload: bytes,
    keys: KeyRing | None,
    old: tuple[str, str],
    new: tuple[str, str],
    *,
    moved: Spilled | None = None,
) -> bytes:
    """A parcel for another task: its secrets encrypted anew, with the first key of the ring.

    Args:
        payload: The parcel.
        keys: The keys that are known here.
        old: Namespace and id of the task that it was for.
        new: Those of the task that it is for now.
        moved: Where the body of the new task lies, if that of the old one lies in a file.

    Raises:
        SerializationError: It is damaged; or its body lies in a file, and `moved` is missing.
        SignatureError: A secret cannot be decrypted.
    """
    manifest, body = unwrap(payload)
    if manifest.spilled is not None and moved is None and old != new:
        raise SerializationError(
            f"the payload of task {old[1]} lies in a file that goes with that task; copy the file, too",
            task_id=old[1],
        )
    secrets: list[tuple[str, bytes]] = []
    for place, data in manifest.secrets:
        value = decrypt(data, keys, manifest.key_id, namespace=old[0], task_id=old[1], place=place)
        ring = needed(keys, "an argument")
        secrets.append((place, encrypt(value, ring, namespace=new[0], task_id=new[1], place=place)))
    key_id = keys.first if secrets and keys is not None else ""
    return wrap(Manifest(key_id, tuple(secrets), moved or manifest.spilled), body)


def _joined(*texts: str) -> bytes:
    """Texts as bytes that no other texts give."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in (text.encode() for text in texts))


def _cipher() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "secret arguments are encrypted with the library cryptography, which is not installed: "
            "pip install 'sitq-tasks[crypto]'",
            cause=error,
        ) from error
    return AESGCM
