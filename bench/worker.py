"""A worker in a process of its own: `python -m bench.worker URL --tally FILE`.

Its memory is measured, so it imports what it needs for one side and one store only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bench import tally
from bench.loop import run
from bench.stores.store import Store
from bench.tally import Tally
from sitq import Worker
from sitq.backends import open_backend
from sitq.backends.base import Backend
from sitq.worker.process import spare_the_collector

CONCURRENCY: Final = 100

_COUNTED: Final = ("put", "take", "apply", "get", "scan", "swap", "cells", "append", "read", "tend", "tally")


def make_worker(backend: Backend) -> Worker:
    """The worker that is measured: the defaults, but for a hundred tasks at once."""
    return Worker(backend, max_concurrency=CONCURRENCY)


def count_calls(backend: Backend, counts: Tally) -> None:
    """Count every call to the store but renewals."""

    def counted(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(call)
        async def around(*args: Any, **kwargs: Any) -> Any:
            counts.call()
            return await call(*args, **kwargs)

        return around

    for name in _COUNTED:
        setattr(backend, name, counted(getattr(backend, name)))


async def _serve_sitq(url: str, counts: Tally, *, count: bool) -> None:
    backend = open_backend(url)
    if count:
        count_calls(backend, counts)
    worker = make_worker(backend)
    stops: list[asyncio.Task[None]] = []
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, lambda: stops.append(asyncio.create_task(worker.stop()))
    )
    await worker.start()
    await asyncio.gather(*stops)


async def _serve_raw(url: str, store: str, batch: int) -> None:
    named: Store = importlib.import_module(f"bench.stores.{store}").STORE
    raw = named.raw(url)
    await raw.connect()
    work = asyncio.create_task(raw.work(batch))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    await raw.close()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=main.__doc__)
    parser.add_argument("url", help="the store, as bench.stores made it")
    parser.add_argument("--tally", type=Path, required=True, help="the file that counts its tasks")
    parser.add_argument("--raw", metavar="STORE", help="be the raw worker of this store instead of sitq's")
    parser.add_argument("--batch", type=int, default=500, help="how many tasks a raw worker takes at once")
    parser.add_argument("--count", action="store_true", help="count the calls to the store")
    parser.add_argument("--uvloop", action="store_true", help="run uvloop's event loop")
    chosen = parser.parse_args()
    counts = Tally(chosen.tally)
    tally.use(counts)
    if chosen.raw:
        run(_serve_raw(chosen.url, chosen.raw, chosen.batch), uvloop=chosen.uvloop)
    else:
        spare_the_collector()  # as `sitq worker` does
        run(_serve_sitq(chosen.url, counts, count=chosen.count), uvloop=chosen.uvloop)


if __name__ == "__main__":
    main()
