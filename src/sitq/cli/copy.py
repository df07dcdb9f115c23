"""`sitq copy`: what waits in one store goes on in another one."""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec

from sitq.backends.base import Backend
from sitq.cli.complaint import Complaint
from sitq.cli.target import load_target
from sitq.copying import Copied, copy_tasks
from sitq.worker.exits import Exit

_EPILOG = """\b
Exit codes:
  0  all that could be moved was moved, and nothing was refused
  1  some tasks stay at the source; the table says why
  2  the command or a store cannot be used as they are"""


@click.command(epilog=_EPILOG)
@click.argument("source")
@click.argument("destination")
@click.option(
    "--results",
    type=click.FloatRange(0),
    default=86_400,
    show_default=True,
    help="Copy the records of tasks that ended at most so many seconds ago.",
)
@click.option("--settings/--no-settings", default=True, help="Copy pauses, limits of queues and schedules.")
@click.option("--wait/--no-wait", default=True, help="Go on until nothing waits or runs at the source.")
@click.option("--trust-store", is_flag=True, help="Vouch for what is in both stores, signed or not.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def copy(
    source: str,
    destination: str,
    *,
    results: float,
    settings: bool,
    wait: bool,
    trust_store: bool,
    as_json: bool,
) -> Exit:
    """Move the tasks of SOURCE to DESTINATION while producers and workers run.

    Both are URLs of stores, or `module:queue`. Interrupted, it goes on when the same command is given again.
    """
    stores = [_store(each) for each in (source, destination)]
    missing = stores[0].missing()
    if missing is not None:
        raise Complaint(f"{missing}: there is nothing to copy")
    report = asyncio.run(
        copy_tasks(
            stores[0],
            stores[1],
            results=results,
            settings=settings,
            wait=wait,
            trust_store=trust_store,
            told=None if as_json or not sys.stderr.isatty() else _tell,
        )
    )
    click.echo(msgspec.json.encode(report).decode() if as_json else _table(report))
    return Exit.FAILED if report.refused else Exit.DONE


def _store(given: str) -> Backend:
    target = load_target(given)
    return target if isinstance(target, Backend) else target.backend


def _tell(report: Copied) -> None:
    click.echo(f"{report.moved:,} moved, {report.left:,} left", err=True)


def _table(report: Copied) -> str:
    lines = [
        f"tasks moved      {report.moved:>9,}",
        f"results copied   {report.results:>9,}",
        f"settings copied  {report.settings:>9,}",
        f"left at source   {report.left:>9,}",
    ]
    lines += [f"kept as it is at the destination: {key}" for key in report.kept]
    lines += [f"refused: {id}: {why}" for id, why in report.refused.items()]
    return "\n".join(lines)
