"""The line between a worker and its processes for tasks: messages over a socket pair.

A message is a list of a word and plain values, as msgpack, behind its length in four bytes. What users make
travels in it as bytes of a pickle: whatever becomes of that, the message itself can be read.

    from the worker   task, cancel (reason), answer (number, what, data)
    to the worker     begun, progress (fraction, message), extend (seconds), ask (number, what, step, data),
                      ended (how, data)
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, Final

import msgspec

_LENGTH: Final = struct.Struct(">I")

Message = list[Any]


def packed(*message: Any) -> bytes:
    """A message as bytes."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Cuts messages out of what is received."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now."""
        self._rest += data
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            end = _LENGTH.size + length
            if len(self._rest) < end:
                return
            message: Message = msgspec.msgpack.decode(bytes(self._rest[_LENGTH.size : end]), type=list[Any])
            del self._rest[:end]
            yield message


class Line:
    """The end of the line in the process for tasks, for its threads."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = threading.Lock()

    def say(self, *message: Any) -> bool:
        """Send a message; False when nobody listens any more, or a function has closed the line."""
        data = packed(*message)
        with self._sending, contextlib.suppress(OSError):
            self._end.sendall(data)
            return True
        return False

    def heard(self) -> Iterator[Message]:
        """The messages until the other end is gone."""
        unpacker = Unpacker()
        with contextlib.suppress(OSError):
            while data := self._end.recv(1 << 16):
                yield from unpacker.feed(data)
