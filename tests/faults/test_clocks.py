"""Clocks that are wrong by an hour, or jump by a day: only the store's decides.

Producers and workers are processes of their own under libfaketime, which shows them another time of day.
"""

import asyncio
import importlib.util
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sitq.backends import open_backend
from sitq.record import State

LEASE = 2.0
LATE = 1.0
SLACK = 6.0

APP = '''
import asyncio, os, sys, time
from datetime import datetime
from sitq import Task, TaskQueue, current_task

WORKERS = ('fast', 'slow', 'jumping')
queue = TaskQueue(os.environ["STORE"])

def trace(word):
    with open(os.environ["TRACES"], "a") as file:
        file.write(f"{word} {current_task().id} {current_task().attempt} {time.monotonic()}\\n")

async def short():
    trace("short")

async def long(seconds):
    trace("long")
    await asyncio.sleep(seconds)

async def produce(name, eta, seconds):
    """Half by the length of a wait, half by an instant of the store's clock."""
    async with queue:
        begun = time.monotonic()
        tasks = [Task(short, id=f"{name}-delay-{one}", delay=2) for one in range(10)]
        tasks += [Task(short, id=f"{name}-eta-{one}", eta=datetime.fromisoformat(eta)) for one in range(10)]
        tasks += [Task(short, id=f"{name}-now-{one}") for one in range(10)]
        # While the clock of one worker jumps by days, all of them keep their leases.
        for queue_of in WORKERS:
            ids = [f"{name}-{queue_of}-{one}" for one in range(3)]
            tasks += [Task(long, (float(seconds),), id=task_id, queue=queue_of) for task_id in ids]
        await queue.enqueue_many(tasks)
        print(begun, time.monotonic(), time.time())

if __name__ == "__main__":
    asyncio.run(produce(*sys.argv[1:]))
'''

CLOCKS = {"fast": "+3600", "slow": "-3600"}
STEPS = ("-86400", "+86400", "+0")
TASKS = len(CLOCKS) * (3 * 10 + 3 * 3)


@pytest.fixture(scope="session")
def faketime():
    """The library that shows a process another time."""
    places = [Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
    spec = importlib.util.find_spec("libfaketime")
    if spec is not None and platform.machine() == "x86_64":  # what the wheel has in it
        places.append(Path(spec.origin).parent.glob("vendor/**/libfaketime.so.1"))
    found = [path for place in places for path in place]
    if not found:
        pytest.skip("libfaketime is for Linux")
    return found[0]


class Place:
    """A folder with an application, and the processes under wrong clocks that work there."""

    def __init__(self, folder, url, library):
        self.folder, self.url, self.library = folder, url, library
        self.traces = folder / "traces"
        self.traces.touch()
        (folder / "clocks_app.py").write_text(APP)
        self.processes = []

    def start(self, clock, *command, **more):
        stamp = self.folder / f"clock-{len(self.processes)}"
        stamp.write_text(clock + "\n")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("SITQ_", "COVERAGE_"))
        }
        environment |= {
            "STORE": self.url,
            "TRACES": str(self.traces),
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(stamp),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=self.folder, env=environment, stderr=log, text=True, **more
            )
        process.stamp = stamp
        self.processes.append(process)
        return process

    def work(self, name, clock):
        options = [
            f"--queues=default,{name}",
            "--log-level=warning",
            f"--lease={LEASE}",
            "--concurrency=20",
            "--grace=1",
        ]
        return self.start(clock, "-m", "sitq", "worker", "clocks_app:queue", *options)

    async def produce(self, name, clock, eta):
        """Seconds between which it enqueued, and how wrong its clock was."""
        process = self.start(
            clock, "clocks_app.py", name, eta.isoformat(), str(3 * LEASE), stdout=subprocess.PIPE
        )
        words, _ = await asyncio.to_thread(process.communicate, timeout=30)
        begun, ended, wall = map(float, words.split())
        return begun, ended, wall - time.time()

    def starts(self):
        """Task, attempt and time of each start."""
        lines = [line.split() for line in self.traces.read_text().splitlines()]
        return [(task, int(attempt), float(at)) for _, task, attempt, at in lines]

    def clean_up(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def place(tmp_path, server, url_of, faketime):
    here = Place(tmp_path, url_of(server.url()), faketime)
    yield here
    here.clean_up()


async def test_only_the_clock_of_the_store_decides(place, eventually):
    async with open_backend(place.url) as look:
        workers = {name: place.work(name, clock) for name, clock in (CLOCKS | {"jumping": "+0"}).items()}
        eta, at = datetime.now(UTC) + timedelta(seconds=5), time.monotonic() + 5
        produced = await asyncio.gather(*(place.produce(name, clock, eta) for name, clock in CLOCKS.items()))
        made = dict(zip(CLOCKS, produced, strict=True))
        assert abs(made["fast"][2] - 3600) < 60
        assert abs(made["slow"][2] + 3600) < 60
        for step in STEPS:
            workers["jumping"].stamp.write_text(step + "\n")
            await asyncio.sleep(LEASE * 0.75)
        await eventually(lambda: len({task for task, *_ in place.starts()}) >= TASKS, 30)

        async def done():
            records = await look.get([task for task, *_ in place.starts()])
            return all(record.finished for record in records) and records

        records = await eventually(done, 30)
    starts = {task: when for task, _, when in place.starts()}
    for name, (begun, ended, _) in made.items():
        for one in range(10):
            assert begun + 2 <= starts[f"{name}-delay-{one}"] <= ended + 2 + LATE + SLACK
            assert at <= starts[f"{name}-eta-{one}"] + 0.01  # two clocks were read one after the other
            assert starts[f"{name}-eta-{one}"] <= max(at, ended) + LATE + SLACK
    assert not [
        (record.id, record.state, record.attempt, record.owner)
        for record in records
        if (record.state, record.crashes) != (State.COMPLETED, 0)
    ]
    assert len(place.starts()) == len(starts) == TASKS
    assert (place.folder / "log").read_text() == ""
