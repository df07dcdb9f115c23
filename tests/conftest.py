"""What tests of several folders share."""

import asyncio
import contextlib
import gc
import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sitq import TaskQueue, Worker

LIMIT = 15 * 60
"""Seconds by the clock that all tests may take; told and no failure, as machines differ by more."""

BUDGET = {
    "unit": 60,
    "integration": 340,
    "conformance": 240,
    "storm": 330,
    "cli": 100,
    "faults": 290,
    "simulation": 45,
    "crash": 120,
    "validation": 60,
    "model": 60,
    "regress": 150,
    "sabotage": 5,
}
"""Seconds of tests that each layer may take on two cores, of which `make test` runs two at a time.

Told like the limit: what else the machine does, and which layers happen to run beside one another, makes
threefold differences in these.
"""

assert sum(BUDGET.values()) <= 2 * LIMIT, "the layers may take more than all together"

BEGUN = time.monotonic()

THREADS = (  # of stores, lease keepers and faces, which end when these are closed
    "sitq-sqlite",
    "sitq-postgres",
    "sitq-leases",
    "sitq-listener",
    "sitq-sync",
    "sitq-health",
)

pytest_plugins = [
    "sitq.testing.conformance.skips",  # what the suite left out, told under xdist too
    "sitq.testing.servers.plugin",  # real servers, and a line for each that cannot be had
]

APP = '''
"""The application of a test: a queue in a SQLite file, and functions that leave traces in files."""

import asyncio
import os
import signal
import time
from pathlib import Path

from sitq import SQLiteBackend, TaskQueue, Worker, current_task

backend = SQLiteBackend(Path(__file__).parent / "tasks.db")
queue = TaskQueue(backend)
emails = TaskQueue(backend, queue="emails")
worker = Worker(backend, max_concurrency=3, queues=["default"], grace=7)
number = 42
heap = []


def make_queue():
    return queue


async def make_queue_later():
    return queue


def broken_factory():
    raise RuntimeError("no settings here")


async def add(a, b):
    return a + b


def trace(path, word="started"):
    with open(path, "a") as file:
        file.write(f"{word} {os.getpid()} {time.time()}\\n")


async def hold(path, seconds=60.0):
    """Take long at the first attempt only."""
    trace(path)
    if current_task().attempt == 1:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            trace(path, "cancelled")
            raise
    return os.getpid()


def hold_thread(path, seconds):
    trace(path)
    if current_task().attempt == 1:
        time.sleep(seconds)
    return os.getpid()


async def block(path, seconds):
    """Keep the event loop from running."""
    trace(path)
    time.sleep(seconds)


async def grow(size):
    """Keep memory for good."""
    heap.append(bytearray(b"1") * size)
    return os.getpid()


def die(path):
    trace(path)
    os._exit(9)
'''


class Place:
    """A folder with an application, its database, and the processes that a test starts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"app_{os.urandom(4).hex()}"  # a process imports each of them once
        self.file = folder / f"{self.name}.py"
        self.file.write_text(APP)
        self.database = folder / "tasks.db"
        self.traces = folder / "traces"
        self.app: ModuleType = importlib.import_module(self.name)
        self.queue: TaskQueue = self.app.queue
        self._processes: list[subprocess.Popen[str]] = []

    def environment(self, **more: str) -> dict[str, str]:
        """This process's, without what sitq reads from it."""
        return {name: value for name, value in os.environ.items() if not name.startswith("SITQ_")} | more

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `sitq` in the folder, with its stderr in `log`."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sitq", *arguments],
                cwd=self.folder,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        self._processes.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `sitq` in the folder to its end."""
        return subprocess.run(
            [sys.executable, "-m", "sitq", *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @property
    def log(self) -> str:
        """What the started processes said on stderr."""
        return (self.folder / "log").read_text()

    def trace(self, word: str = "started") -> list[tuple[int, float]]:
        """Process id and time of each trace with this word."""
        if not self.traces.exists():
            return []
        lines = [line.split() for line in self.traces.read_text().splitlines()]
        return [(int(pid), float(at)) for what, pid, at in lines if what == word]

    async def until(self, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Wait for something that other processes do; what the condition answers then."""
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            if time.monotonic() > deadline:
                log = self.log if (self.folder / "log").exists() else ""
                pytest.fail(f"it did not happen within {seconds:g} s; the log is:\n{log}")
            await asyncio.sleep(0.01)
        return answer

    async def exit_of(self, process: subprocess.Popen[str], seconds: float = 15.0) -> int:
        """The exit code of a process that is about to end."""
        await self.until(lambda: process.poll() is not None, seconds)
        assert process.returncode is not None
        return process.returncode

    async def value_of(self, task_id: str, seconds: float = 15.0) -> Any:
        """What a task returned."""
        result = await self.queue.get_result(task_id, timeout=seconds)
        assert result is not None, self.log
        return self.queue.deserialize_result(result)

    def clean_up(self) -> None:
        """End what is left. Worker processes notice the end of their supervisor."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(autouse=True)
def no_thread_goes_on():
    """None of `THREADS` outlives the test that started it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while left := [each for each in set(threading.enumerate()) - before if each.name.startswith(THREADS)]:
        gc.collect()
        assert time.monotonic() < deadline, f"the test left {left}"
        time.sleep(0.01)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder with an application that real processes can work for."""
    monkeypatch.syspath_prepend(str(tmp_path))
    here = Place(tmp_path)
    yield here
    here.clean_up()
    await here.queue.close()
    await here.app.emails.close()
    sys.modules.pop(here.name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each layer took, next to its budget."""
    took: dict[str, float] = {}
    tests: dict[str, set[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                layer = report.nodeid.removeprefix("tests/").partition("/")[0]
                took[layer] = took.get(layer, 0.0) + report.duration
                tests.setdefault(layer, set()).add(report.nodeid)
    if not took:
        return
    terminalreporter.section("seconds of tests per layer")
    for layer, seconds in sorted(took.items(), key=lambda entry: -entry[1]):
        budget = BUDGET.get(layer)
        over = "  OVER" if budget is not None and seconds > budget else ""
        of = "" if budget is None else f" of {budget:4d} s"
        terminalreporter.write_line(f"{layer:12} {seconds:7.1f} s{of}  {len(tests[layer]):5,} tests{over}")
    terminalreporter.write_line(f"{'together':12} {sum(took.values()):7.1f} s of {sum(BUDGET.values()):4d} s")
    lasted = time.monotonic() - BEGUN
    over = "  OVER" if lasted > LIMIT else ""
    terminalreporter.write_line(f"{'by the clock':12} {lasted:7.1f} s of {LIMIT:4d} s{over}")


@pytest.fixture
def older_producer(monkeypatch):
    """Producers whose functions had other parameters: whether a call fits is found out by the worker."""
    monkeypatch.setattr("sitq.codec.check_call", lambda *_: None)


@pytest.fixture
async def queue(backend):
    async with TaskQueue(backend) as queue:
        yield queue


@pytest.fixture
def working(backend):
    """Workers that work while a block lasts: `async with working(max_concurrency=2) as worker`."""

    @contextlib.asynccontextmanager
    async def work(store=None, **settings):
        worker = Worker(store or backend, **({"grace": 1.0} | settings))
        async with worker:
            yield worker

    return work


@pytest.fixture
def stored(backend):
    """A task's record, now."""

    async def get(task_id):
        (record,) = await backend.get([task_id])
        return record

    return get


@pytest.fixture
def eventually():
    """Wait, with a deadline, until a condition holds; answers with what it came to."""

    async def wait(condition, seconds=10.0):
        deadline = time.monotonic() + seconds
        while True:
            found = condition()
            found = await found if asyncio.iscoroutine(found) else found
            if found:
                return found
            assert time.monotonic() < deadline, "it never came to be"
            await asyncio.sleep(0.005)

    return wait
