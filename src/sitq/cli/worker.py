"""`sitq worker`: run tasks, in this process or in several that it watches over."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import click

from sitq.cli.complaint import Complaint
from sitq.cli.settings import LEVELS, Queues, queues_of, set_up_logging, target_of
from sitq.cli.start import say_unserved, say_where
from sitq.cli.target import check_target, load_target
from sitq.cli.workers import check_settings, check_store, make_worker
from sitq.worker import Worker
from sitq.worker.exits import Exit
from sitq.worker.health import HealthServer, address
from sitq.worker.process import UnusableStoreError, run_worker
from sitq.worker.supervisor import Supervisor
from sitq.worker.vitals import Health, report

_EPILOG = """\b
Exit codes:
  0  stopped gracefully, or the burst is over
  1  something is wrong with sitq, or worker processes kept dying before they were ready
  2  the command, APP or its store cannot be used as they are
  3  stopped at once, by a second signal or since a process did not stop in time
  4  the application's lifespan failed
  5  has done its part by --max-tasks or --max-memory, and is to be started again

\b
The first SIGINT or SIGTERM stops gracefully, the second hands running tasks back
at once, the third ends without that."""

_MOST_PROCESSES = 1024


@click.command(epilog=_EPILOG)
@click.argument("app", required=False, envvar="SITQ_APP")
@click.option(
    "--processes",
    type=click.IntRange(1, _MOST_PROCESSES),
    default=1,
    show_default=True,
    envvar="SITQ_PROCESSES",
    help="Worker processes. With more than one, a supervisor replaces those that die and frees their tasks.",
)
@click.option(
    "--queues",
    callback=queues_of,
    envvar="SITQ_QUEUES",
    metavar="A,B | A=3,B=1",
    help="Queues to serve, in strict order or with weights. By default that of APP.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100_000),
    envvar="SITQ_CONCURRENCY",
    help="Tasks that run at once in each process.  [default: 10]",
)
@click.option(
    "--task-processes",
    type=click.IntRange(1, 1_000),
    envvar="SITQ_TASK_PROCESSES",
    help="Tasks that run at once in processes of their own, in each worker process.  [default: one per core]",
)
@click.option(
    "--poll-interval",
    type=click.FloatRange(0, min_open=True),
    help="Seconds after which an idle worker looks for tasks without a hint.  [default: 1]",
)
@click.option(
    "--lease",
    type=click.FloatRange(0.1),
    help="Seconds after which the tasks of a worker that died run elsewhere.  [default: 10]",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    help="Seconds that running tasks get to end after the first signal.  [default: 20]",
)
@click.option(
    "--max-tasks",
    type=click.IntRange(1),
    envvar="SITQ_MAX_TASKS",
    help="Tasks after which a process ends, once they have ended, and another takes its place.",
)
@click.option(
    "--max-memory",
    envvar="SITQ_MAX_MEMORY",
    metavar="SIZE",
    help="The same when it occupies more memory, such as 200MiB.",
)
@click.option(
    "--health",
    envvar="SITQ_HEALTH",
    metavar="[HOST:]PORT",
    help="Tell over HTTP how the worker is: 200 or 503, and JSON. On the loopback interface by default.",
)
@click.option("--burst", is_flag=True, help="End when no task of the queues is ready or running.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    envvar="SITQ_LOG_LEVEL",
    help="How much of sitq's own log goes to stderr.",
)
@click.option("--worker-id", hidden=True)
@click.option("--supervised", type=int, hidden=True)
@click.option("--reports", is_flag=True, hidden=True)
def worker(
    app: str | None,
    *,
    processes: int,
    queues: Queues | None,
    burst: bool,
    log_level: str,
    health: str | None,
    supervised: int | None,
    reports: bool,
    **settings: Any,
) -> Exit:
    """Run the tasks of APP.

    APP is `module:queue`: a TaskQueue, a Worker, a backend, or a function without arguments that
    returns one. The module is looked for in the current folder first. APP may also be the URL of a
    store. Without it, SITQ_APP or SITQ_URL says it.
    """
    target = check_target(target_of(app))
    given = {name: value for name, value in {"queues": queues, **settings}.items() if value is not None}
    set_up = partial(set_up_logging, log_level)
    where = None if health is None or supervised is not None else address(health)
    if processes == 1 or supervised is not None:
        made = make_worker(load_target(target), given)
        check_store(made.backend)
        set_up()  # after the application was imported, which may have set up logging in its own way
        say_where(made.backend)
        say_unserved(made, told="queues" in given)
        return _work(made, where, partial(run_worker, burst=burst, supervised=supervised, reports=reports))
    check_settings(given)
    set_up()
    if os.name != "posix":
        raise Complaint(
            "--processes above 1 works on POSIX systems only; start several `sitq worker` instead"
        )
    command = [
        sys.executable,
        "-P",
        "-m",
        "sitq",
        "worker",
        target,
        *_as_options(given),
        f"--log-level={log_level}",
    ]
    command += [*(["--burst"] if burst else []), *(["--reports"] if where else [])]
    supervisor = Supervisor(command, processes, burst=burst)
    with _probe(where, supervisor.health):
        return asyncio.run(supervisor.run())


def _work(made: Worker, where: tuple[str, int] | None, run: Callable[[Worker], Exit]) -> Exit:
    try:
        with _probe(where, lambda: report(made.vitals())):
            return run(made)
    except UnusableStoreError as error:
        raise Complaint(str(error.__cause__)) from error


def _probe(where: tuple[str, int] | None, look: Callable[[], Health]) -> AbstractContextManager[object]:
    return nullcontext() if where is None else HealthServer(where, look)


def _as_options(given: dict[str, Any]) -> list[str]:
    """Settings as the options that give them again to a process of the supervisor's."""
    return [f"--{name.replace('_', '-')}={_as_text(value)}" for name, value in given.items()]


def _as_text(value: Any) -> str:
    match value:
        case {**weights}:
            return ",".join(f"{name}={weight!r}" for name, weight in weights.items())
        case [*names]:
            return ",".join(names)
        case _:
            return str(value)
