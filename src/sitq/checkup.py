"""What a look at a store finds: how much of the promises its settings keep."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "Level"]

Level = Literal["fine", "warning", "error"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        about: What it is, in a word or two.
        level: `fine`; `warning`: a promise is weaker, or something is stuck; `error`: a promise fails.
        what: What was found, in a sentence.
        remedy: What to do about it, or "".
    """

    about: str
    level: Level
    what: str
    remedy: str = ""
