"""The Lua scripts: one file for each, put together with the shared pieces that its header names."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import NamedTuple

_USES = re.compile(r"^-- uses +(.+)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- flags +(.+)$", re.MULTILINE)


class Script(NamedTuple):
    """A script's text and the name under which a server remembers it."""

    text: str
    sha: str


@cache
def script(name: str, *, flagged: bool) -> Script:
    """The script of this name; `flagged` says that the server knows script flags (Redis 7 and later).

    Without them a script that may exceed `maxmemory` begins with a write that needs no memory: Redis before
    7.0 judges a script by its first write alone.
    """
    body = _read(name)
    uses = _USES.search(body)
    flags = _FLAGS.search(body)
    pieces = [_read(piece) for piece in uses.group(1).split()] if uses else []
    declared = flags.group(1).split() if flags else []
    if flagged:
        pieces.insert(0, f"#!lua{' flags=' + ','.join(declared) if declared else ''}\n")
    elif "allow-oom" in declared:
        pieces.insert(0, "redis.call('DEL', KEYS[1] .. 'none')\n")
    text = "".join((*pieces, body))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def _read(name: str) -> str:
    return (resources.files("sitq.backends.redis") / "lua" / f"{name}.lua").read_text("utf-8")
