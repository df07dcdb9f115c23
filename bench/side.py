"""The two sides of a comparison: sitq and the raw store, with the same verbs."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from bench import tally
from bench.bodies import BODIES
from bench.plan import Plan
from bench.process import WorkerProcess
from bench.stores.store import RawStore, Store
from bench.tally import Tally
from bench.worker import count_calls, make_worker
from sitq import Task, TaskQueue
from sitq.backends import open_backend
from sitq.backends.base import Backend

CHUNK: Final = 1000
"""Tasks in one bulk call."""

_CHUNKS_IN_FLIGHT: Final = 2
_START_PATIENCE: Final = 20.0
_RUN_PATIENCE: Final = 60.0


class Side(ABC):
    """An empty store, opened, and the worker on it. Closed, it leaves nothing behind."""

    name: str

    def __init__(self, store: Store, plan: Plan) -> None:
        self.store = store
        self._plan = plan
        self._stack = AsyncExitStack()
        self._process: WorkerProcess | None = None

    async def __aenter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sitq-bench-"))
        self.counts = Tally(Path(folder) / "tally")
        if not self.store.shared:
            tally.use(self.counts)
        self.url = self._stack.enter_context(self.store.fresh())
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @abstractmethod
    async def _open(self) -> None:
        """Connect, and have it closed by the stack."""

    @abstractmethod
    async def enqueue(self, body: str = "noop") -> Any:
        """Enqueue one task; its handle."""

    @abstractmethod
    async def value(self, handle: Any) -> None:
        """Wait for the value of a task."""

    @abstractmethod
    async def load(self, n: int, body: str = "noop") -> None:
        """Enqueue n tasks in bulk."""

    @abstractmethod
    async def enqueue_together(self, n: int, callers: int) -> None:
        """Enqueue n tasks from callers that are in flight at the same time."""

    @abstractmethod
    def _arguments(self, *, count: bool) -> list[str]:
        """What a worker process is told beside the URL."""

    @abstractmethod
    def _work_here(self, *, count: bool) -> Coroutine[Any, Any, None]:
        """Work in this process until cancelled or stopped."""

    @abstractmethod
    async def check(self, n: int) -> None:
        """Raise unless n results are stored."""

    @contextlib.asynccontextmanager
    async def worker(self, *, count: bool = False) -> AsyncIterator[WorkerProcess | None]:
        """Have a worker while the block lasts: in another process, or here if the store cannot be shared."""
        if self.store.shared:
            loop = ["--uvloop"] if self._plan.uvloop else []
            arguments = [self.url, "--tally", str(self.counts.path), *loop, *self._arguments(count=count)]
            self._process = process = WorkerProcess(arguments)
            try:
                yield process
            finally:
                self._process = None
                await process.stop()
        else:
            task = asyncio.create_task(self._work_here(count=count))
            try:
                yield None
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def until(self, condition: Callable[[], bool], pause: float = 0.002) -> None:
        """Wait until a condition holds, while tasks are run.

        Raises:
            TimeoutError: Nothing was started for a long time, or what was started took too long.
        """
        begun = time.monotonic()
        while not condition():
            if self._process is not None:
                self._process.check()
            patience = _RUN_PATIENCE if self.counts.started else _START_PATIENCE
            if time.monotonic() - begun > patience:
                ran = f"{self.counts.started} tasks had started and {self.counts.ended} ended"
                raise TimeoutError(f"after {patience:g} s, {ran}")
            await asyncio.sleep(pause)


class SitqSide(Side):
    """sitq as its users use it."""

    name = "sitq"
    backend: Backend

    async def _open(self) -> None:
        self.backend = open_backend(self.url)
        self.queue = TaskQueue(self.backend)
        await self.queue.connect()
        self._stack.push_async_callback(self.queue.close)

    async def enqueue(self, body: str = "noop") -> str:
        return await self.queue.enqueue(BODIES[body])

    async def value(self, handle: str) -> None:
        result = await self.queue.get_result(handle, timeout=10)
        if result is None:
            raise TimeoutError(f"task {handle} had no result after 10 s")
        self.queue.deserialize_result(result)

    async def load(self, n: int, body: str = "noop") -> None:
        chunks = iter(range(0, n, CHUNK))
        function = BODIES[body]

        async def send() -> None:
            for at in chunks:
                await self.queue.enqueue_many([Task(function) for _ in range(min(CHUNK, n - at))])

        await asyncio.gather(*(send() for _ in range(_CHUNKS_IN_FLIGHT)))

    async def enqueue_together(self, n: int, callers: int) -> None:
        each = iter(range(n))
        function, enqueue = BODIES["noop"], self.queue.enqueue

        async def call() -> None:
            for _ in each:
                await enqueue(function)

        await asyncio.gather(*(call() for _ in range(callers)))

    def _arguments(self, *, count: bool) -> list[str]:
        return ["--count"] if count else []

    async def _work_here(self, *, count: bool) -> None:
        if count:
            count_calls(self.backend, self.counts)
        worker = make_worker(self.backend)
        try:
            await asyncio.shield(work := asyncio.create_task(worker.start()))
        finally:
            await worker.stop()
            await work

    async def check(self, n: int) -> None:
        tally = await self.backend.tally()
        found = {str(state): count for states in tally.values() for state, count in states.items() if count}
        if found != {"completed": n}:
            raise RuntimeError(f"{n} tasks were to be completed, the store has {found}")


class RawSide(Side):
    """The raw store."""

    name = "raw"
    batch = 500

    async def _open(self) -> None:
        self.raw: RawStore = self.store.raw(self.url)
        await self.raw.connect()
        self._stack.push_async_callback(self.raw.close)

    async def enqueue(self, body: str = "noop") -> Any:
        return await self.raw.enqueue(body)

    async def value(self, handle: Any) -> None:
        await self.raw.value(handle)

    async def load(self, n: int, body: str = "noop") -> None:
        for at in range(0, n, CHUNK):
            await self.raw.enqueue_many(body, min(CHUNK, n - at))

    async def enqueue_together(self, n: int, callers: int) -> None:
        # What callers in flight come to when they are batched perfectly.
        for at in range(0, n, callers):
            await self.raw.enqueue_many("noop", min(callers, n - at))

    def _arguments(self, *, count: bool) -> list[str]:  # noqa: ARG002
        return ["--raw", self.store.name, "--batch", str(self.batch)]

    async def _work_here(self, *, count: bool) -> None:  # noqa: ARG002
        await self.raw.work(self.batch)

    async def check(self, n: int) -> None:
        pass


def sides(store: Store, plan: Plan) -> tuple[Side, Side]:
    """Both sides, each on an empty store of its own."""
    return SitqSide(store, plan), RawSide(store, plan)
