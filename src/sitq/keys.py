"""The secret keys that sign what is stored."""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn, Protocol, Self

from sitq.exceptions import ConfigurationError

__all__ = ["VARIABLE", "KeyRing"]

VARIABLE = "SITQ_SECRET_KEYS"
"""The environment variable that holds the key ring: `id:secret,id:secret`."""

_KEY_BYTES = 32
_SALT = b"sitq envelope v1"
_DERIVED_SALT = b"sitq encryption v1"
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


class _Hash(Protocol):
    """What is used of a hash of hashlib, which names its class differently from release to release."""

    def copy(self) -> Self: ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class KeyRing:
    """One or more secret keys: the first one signs, all of them verify.

    A key is changed in three steps, without a pause: add the new one at the end everywhere, move it to the
    front everywhere, and remove the old one when nothing that it signed is left.

    Secrets appear in no text that it gives, and it refuses to be pickled.
    """

    __slots__ = ("_prepared", "_secrets", "first")

    def __init__(self, keys: Iterable[tuple[str, bytes]]) -> None:
        self._secrets: dict[str, bytes] = {}
        self._prepared: dict[tuple[str, str], tuple[_Hash, _Hash]] = {}
        for position, (key_id, secret) in enumerate(keys, 1):
            # A secret may stand where the id belongs, so neither is ever repeated in a message.
            if not _KEY_ID.fullmatch(key_id):
                raise ConfigurationError(
                    f"key {position} has an id that is not 1 to 32 of the characters A-Z, a-z, 0-9, . _ and -"
                )
            if key_id in self._secrets:
                raise ConfigurationError(f"key {position} has the id of a key before it; give each its own")
            if len(secret) < _KEY_BYTES:
                raise ConfigurationError(
                    f"key {position} has {len(secret)} bytes, at least {_KEY_BYTES} are needed; "
                    f"make one with: python -c 'import secrets; print(secrets.token_hex({_KEY_BYTES}))'"
                )
            self._secrets[key_id] = bytes(secret)
        if not self._secrets:
            raise ConfigurationError("a key ring needs at least one key")
        self.first: str = next(iter(self._secrets))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key ring written as `id:secret,id:secret`.

        A secret of hexadecimal digits alone is hexadecimal, any other one base64 (either alphabet, padded
        or not).

        Raises:
            ConfigurationError: The text is malformed; names the position of the key, never its content.
        """
        return cls(_entry(position, entry) for position, entry in enumerate(text.split(","), 1))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self | None:
        """The key ring in `SITQ_SECRET_KEYS`, or None where that is not set.

        Raises:
            ConfigurationError: It is set to something malformed, or to nothing: signing must not end because
                a secret failed to arrive.
        """
        text = (os.environ if environment is None else environment).get(VARIABLE)
        if text is None:
            return None
        if not text.strip():
            raise ConfigurationError(f"{VARIABLE} is set but empty; unset it, or set it to id:secret")
        try:
            return cls.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{VARIABLE}: {error}") from None

    def sign(self, data: bytes, *, key_id: str, purpose: str) -> bytes:
        """The HMAC-SHA-256 of the data, 32 bytes, under the key derived from a secret for one purpose.

        Each purpose has a key of its own, so that a signed result never verifies as a task.

        Raises:
            KeyError: There is no key of this id.
        """
        prepared = self._prepared.get((key_id, purpose))
        if prepared is None:
            prepared = _prepare(hkdf(self._secrets[key_id], _SALT, purpose.encode()))
            self._prepared[key_id, purpose] = prepared
        # RFC 2104 from two hashes that have already taken in the key: hmac.digest does that again for every
        # message, and takes twice as long for a short one.
        inner, outer = prepared[0].copy(), prepared[1].copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()

    def derive(self, key_id: str, purpose: str, context: bytes) -> bytes:
        """A key of 32 bytes for one purpose and one context, that tells nothing of any other.

        Raises:
            KeyError: There is no key of this id.
        """
        return hkdf(self._secrets[key_id], _DERIVED_SALT, purpose.encode() + b"\0" + context)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._secrets

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self)}, signing with {self.first!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not pickled, so that no secret is stored by mistake")


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA-256 (RFC 5869), which is a single block of its output."""
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def _prepare(key: bytes) -> tuple[_Hash, _Hash]:
    block = key.ljust(hashlib.sha256().block_size, b"\0")
    return (
        hashlib.sha256(bytes(byte ^ 0x36 for byte in block)),
        hashlib.sha256(bytes(byte ^ 0x5C for byte in block)),
    )


def _entry(position: int, entry: str) -> tuple[str, bytes]:
    key_id, colon, secret = entry.strip().partition(":")
    if not colon:
        raise ConfigurationError(f"key {position} has no id; write id:secret")
    secret = secret.strip()
    if _HEX.fullmatch(secret):
        return key_id.strip(), bytes.fromhex(secret)
    standard = secret.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return key_id.strip(), base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        # `from None`: the error below may quote what it could not read.
        raise ConfigurationError(
            f"key {position} has a secret that is neither hexadecimal nor base64"
        ) from None
