"""A worker's turns at what somebody has to do now and then for the store."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from sitq.backends.base import Backend
from sitq.contents import Contents
from sitq.worker.leases import LeaseKeeper

_EVERY: Final = 5.0
"""Seconds between two turns."""

_BUDGET: Final = 500

logger = logging.getLogger("sitq.worker")


async def tend(backend: Backend, contents: Contents, keeper: LeaseKeeper) -> None:
    """Take turns until it is cancelled; what fails is tried again at the next one.

    Args:
        backend: The store.
        contents: Sweeps the files that belong to no task any more.
        keeper: Knows whether leases that ran out may be taken from their holders, as upkeep does.
    """
    await asyncio.sleep(_EVERY * random.random())
    while True:
        try:
            done = 0
            if keeper.sure:
                with keeper.doubt.asking():
                    done = await backend.tend(_BUDGET)
        except Exception as error:  # noqa: BLE001 - it is nobody's but the store's concern
            done = 0
            logger.warning("upkeep failed and will be tried again: %s", error)
        if contents.spills:
            await _sweep(contents)
        await asyncio.sleep(0.05 if done >= _BUDGET else _EVERY * (0.8 + 0.4 * random.random()))


async def _sweep(contents: Contents) -> None:
    try:
        await contents.sweep()
    except Exception as error:  # noqa: BLE001 - what is left over costs room and nothing else
        logger.warning("spilled files could not be swept and will be tried again: %s", error)
