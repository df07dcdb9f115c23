"""A program that forks worker processes which kill themselves at a given line between a claim and its task.

Called with a database's path. Reads numbers, one a line; answers each with the exit code of the worker.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import sitq
from sitq import SQLiteBackend, Worker

HERE = str(Path(sitq.__file__).parent)


def main() -> None:
    """Serve one number after another."""
    import test_killed_workers  # noqa: F401, PLC0415 - its functions, imported once and inherited by the forks

    for line in sys.stdin:
        child = os.fork()
        if not child:
            asyncio.run(work(sys.argv[1], int(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


async def work(path: str, last: int) -> None:
    """Work until so many lines of the package have begun after a claim, or until nothing is left to do."""
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if event == "line" and frame.f_code.co_filename.startswith(HERE):
            lines += 1
            if lines == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    class Watched(SQLiteBackend):
        """A store whose user is followed line by line from the answer to its claim on."""

        async def take(self, want):
            taken = await super().take(want)
            if taken.records:
                frame = sys._getframe()
                while frame is not None:
                    frame.f_trace = trace
                    frame = frame.f_back
                sys.settrace(trace)
            return taken

    worker = Worker(Watched(path, synchronous="NORMAL"), worker_id="dying", lease=600, max_concurrency=1)
    await worker.run(burst=True)


if __name__ == "__main__":
    main()
