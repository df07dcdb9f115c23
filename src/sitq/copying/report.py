"""What a copy did."""

from __future__ import annotations

import msgspec


class Copied(msgspec.Struct, kw_only=True):
    """What a copy did, in numbers, and what it could not do.

    Attributes:
        moved: Tasks that wait at the destination now, and not at the source any more.
        results: Records of ended tasks that the destination did not have.
        settings: Pauses, limits and schedules that it did not have.
        kept: Settings that are different there; they were left as they are.
        refused: Tasks that stay at the source, and why, by their ids.
        left: Tasks that have not ended at the source.
    """

    moved: int = 0
    results: int = 0
    settings: int = 0
    kept: list[str] = []
    refused: dict[str, str] = {}
    left: int = 0
