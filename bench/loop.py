"""The event loop: asyncio's, or uvloop's where it is asked for."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, uvloop: bool) -> T:
    """Run a coroutine to its end."""
    factory = importlib.import_module("uvloop").new_event_loop if uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def described(*, uvloop: bool) -> str:
    """What the header says.

    Raises:
        ModuleNotFoundError: uvloop is asked for and not installed.
    """
    if uvloop:
        return f"uvloop {importlib.import_module('uvloop').__version__}"
    return "asyncio"
