"""The settings of a store: what operators said that is not about single tasks."""

from __future__ import annotations

import time
from typing import Final

from sitq.backends.base import LIMIT_QUEUE, Backend
from sitq.copying.report import Copied

SETTINGS: Final = ("pause/", LIMIT_QUEUE, "schedule/")
"""What the keys of such cells begin with."""


async def copy_settings(source: Backend, destination: Backend, report: Copied) -> None:
    """Set at the destination what is set at the source; what is different there already stays."""
    report.kept.clear()
    for prefix in SETTINGS:
        there = {cell.key: cell.value for cell in await destination.cells(prefix)}
        for cell in await source.cells(prefix):
            ttl = None if cell.until is None else cell.until - time.time_ns() // 1000
            if cell.key in there:
                if there[cell.key] != cell.value:
                    report.kept.append(cell.key)
            elif (ttl is None or ttl > 0) and await destination.swap(cell.key, None, cell.value, ttl):
                report.settings += 1
