"""A program that forks worker processes which kill themselves at a given step.

Reads lines of a database's path, `before`, `after` or `line`, and a number; answers each with the exit code
of the worker. A step is a call of the store: a claim, a read of inputs, outcomes. A `line` is one of the
package that begins after a claim, until the task ends that with `sys.settrace(None)`.
"""

import asyncio
import os
import signal
import sys


def main() -> None:
    """Serve one line after another."""
    import test_flows_that_die  # noqa: F401, PLC0415 - the functions, imported once and inherited by the forks

    for line in sys.stdin:
        path, when, step = line.rstrip("\n").split("\t")
        child = os.fork()
        if not child:
            asyncio.run(work_to_line(path, int(step)) if when == "line" else work(path, when, int(step)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


async def work(path: str, when: str, step: int) -> None:
    """Work until the step comes, or until nothing is left to do."""
    from sitq import SQLiteBackend, Worker  # noqa: PLC0415 - see above

    steps = 0

    class Dying(SQLiteBackend):
        """A store whose user is killed around one of its calls."""

        async def _around(self, call):
            nonlocal steps
            steps += 1
            mine = steps == step
            if mine and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await call
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        async def take(self, want):
            return await self._around(super().take(want))

        async def apply(self, moves):
            return await self._around(super().apply(moves))

        async def get(self, ids):
            return await self._around(super().get(ids))

    await Worker(Dying(path, synchronous="NORMAL"), lease=0.5, max_concurrency=3).run(burst=True)


async def work_to_line(path: str, line: int) -> None:
    """Work on one task until the line comes, or until nothing is left to do."""
    import sitq  # noqa: PLC0415 - see above

    package = sitq.__path__[0]
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if event == "line" and frame.f_code.co_filename.startswith(package):
            lines += 1
            if lines == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    class Traced(sitq.SQLiteBackend):
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

    store = Traced(path, synchronous="NORMAL")
    await sitq.Worker(store, worker_id="dying", lease=600, max_concurrency=1).run(burst=True)


if __name__ == "__main__":
    main()
