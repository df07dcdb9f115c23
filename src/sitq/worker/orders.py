"""What a supervisor and its worker processes say to each other: lines of text over a socket.

A closed socket says that the other side is gone.
"""

from __future__ import annotations

from typing import Final

STOP: Final = "stop"
"""To the process: claim nothing more, let the tasks end, hand back the rest."""

STOP_NOW: Final = "stop-now"
"""To the process: hand back what runs, and end."""

FREE: Final = "free"
"""To the process, with a worker's id: that worker is dead, end its leases."""

GO: Final = "go"
"""To the process, once it is ready: begin to claim, after what was said before is done."""

READY: Final = "ready"
"""To the supervisor, with the seconds of grace: the store is open."""

FREED: Final = "freed"
"""To the supervisor, with a worker's id: its leases have ended."""

RETIRING: Final = "retiring"
"""To the supervisor: it claims nothing more and ends as soon as its tasks have, so another may begin."""

ALIVE: Final = "alive"
"""To the supervisor: 1 if the store answers, the seconds since the last claim or -1, 1 if it is stuck."""

ENDED: Final = "ended"
"""To the supervisor: nothing runs here any more, and every lease is settled or handed back."""


def line(word: str, about: str = "") -> bytes:
    """A line to send."""
    return f"{word} {about}".strip().encode() + b"\n"


def parse(received: bytes) -> tuple[str, str]:
    """The word of a line, and what it is about."""
    word, _, about = received.decode(errors="replace").strip().partition(" ")
    return word, about
