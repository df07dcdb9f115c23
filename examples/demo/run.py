"""A tour in some seconds: tasks of every kind, two worker processes, and one of them killed in the middle."""

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import sitq
from sitq import Result, RetryPolicy, TaskQueue

HERE = Path(__file__).parent
PATIENCE = 12.0
LINE = "{:<18} {:>5}  {:>8}  {:<26}  {}"


@dataclass
class Kind:
    """The tasks of one kind: what is expected of them, and what came."""

    name: str
    ids: list[str]
    status: str = "success"
    results: list[Result | None] = field(default_factory=list)
    seconds: float = 0.0

    async def wait(self, queue: TaskQueue, began: float) -> None:
        """Wait for all of them."""
        self.results = await asyncio.gather(*(queue.get_result(each, timeout=PATIENCE) for each in self.ids))
        self.seconds = time.monotonic() - began

    @property
    def as_expected(self) -> bool:
        """Whether each has ended as it should."""
        return all(result is not None and result.status == self.status for result in self.results)

    def line(self, queue: TaskQueue) -> str:
        """What became of them."""
        if not self.as_expected:
            shown = ", ".join(str(result and (result.error or result.status)) for result in self.results)
            return LINE.format(self.name, len(self.ids), "", "", f"NOT AS EXPECTED: {shown}")
        if self.status == "failed":
            return LINE.format(
                self.name, len(self.ids), f"{self.seconds:.2f} s", "", f"{self.results[0].error}"
            )
        values = [queue.deserialize_result(result) for result in self.results]
        ran = Counter(pid for _, pid in values)
        where = ", ".join(f"{pid} ran {count}" for pid, count in sorted(ran.items()))
        what = f"{values[0][0]}" if len(values) == 1 else f"{values[0][0]} … {values[-1][0]}"
        return LINE.format(self.name, len(self.ids), f"{self.seconds:.2f} s", where, what)


async def enqueue_all(work: ModuleType, starts: Path) -> list[Kind]:
    """Put tasks of every kind into the queue."""
    queue: TaskQueue = work.queue
    policy = RetryPolicy(max_retries=3, base=0.2)
    return [
        # The first to start, so that it is running when its process is killed.
        Kind("process killed", [await queue.options(priority=9).enqueue(work.report, starts)]),
        Kind("async function", [await queue.enqueue(work.fetch, page) for page in range(1, 21)]),
        Kind("plain function", [await queue.enqueue(work.add_up, 1000 * n) for n in range(1, 9)]),
        Kind(
            "lambda, by value", [await queue.enqueue(lambda n: (n**2, os.getpid()), n) for n in range(1, 9)]
        ),
        Kind("delayed by 1 s", [await queue.options(delay=1).enqueue(work.fetch, page) for page in (21, 22)]),
        Kind("fails twice", [await queue.options(retry=policy).enqueue(work.flaky)]),
        Kind("fails for good", [await queue.enqueue(work.divide, 1, 0)], status="failed"),
    ]


async def starts_in(file: Path, count: int) -> list[tuple[int, float]]:
    """Process and time of each start that the file tells of, once there are so many."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= count:
            return [(int(pid), float(at)) for pid, at in map(str.split, lines)]
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{count} starts of the long task were expected within {PATIENCE:g} s")


async def kill_one(starts: Path) -> str:
    """Kill the process that runs the long task, and tell when that started again."""
    ((victim, _),) = await starts_in(starts, 1)
    await asyncio.sleep(1)  # let the other process come up, and this one do something else as well
    killed = time.time()
    os.kill(victim, signal.SIGKILL)
    _, (heir, again) = await starts_in(starts, 2)
    later = 1000 * (again - killed)
    return f"Process {victim} was killed; its task started again in process {heir}, {later:.0f} ms later."


async def tour(folder: Path) -> bool:
    """Enqueue, work, kill, and tell; whether all went as expected."""
    starts = folder / "starts"
    work = importlib.import_module("work")  # now, as it opens the database that `main` has named
    async with work.queue as queue:
        kinds = await enqueue_all(work, starts)
        total = sum(len(kind.ids) for kind in kinds)
        print(
            f"sitq {sitq.__version__}: {total} tasks are in {folder}/tasks.db; two worker processes start.\n"
        )

        began = time.monotonic()
        command = [sys.executable, "-m", "sitq", "worker", "work:queue", "--processes=2", "--concurrency=4"]
        supervisor = subprocess.Popen([*command, "--log-level=error"], cwd=HERE)
        try:
            killed, *_ = await asyncio.gather(kill_one(starts), *(kind.wait(queue, began) for kind in kinds))
        finally:
            supervisor.terminate()
            code = supervisor.wait(PATIENCE)

        print(LINE.format("kind", "tasks", "after", "worker processes", "results"))
        for kind in kinds:
            print(kind.line(queue))
        print(f"\n{killed}")
        for result in kinds[-1].results:
            if result is not None and result.traceback is not None:
                print("The failure came with its traceback, which ends:", result.traceback.splitlines()[-1])
        good = all(kind.as_expected for kind in kinds) and code == 0
        how = f"All {total} tasks ended as expected" if good else "NOT as expected"
        print(f"{how}; the workers stopped with exit code {code}.")
        return good


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="sitq-demo-") as name:
        os.environ["DEMO_DATABASE"] = f"{name}/tasks.db"
        return 0 if asyncio.run(tour(Path(name))) else 1


if __name__ == "__main__":
    sys.exit(main())
