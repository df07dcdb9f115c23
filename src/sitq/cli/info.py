"""`sitq info`: how many tasks there are."""

from __future__ import annotations

import asyncio
import json

import click

from sitq.backends.base import Backend
from sitq.cli.complaint import Complaint
from sitq.cli.settings import target_of
from sitq.cli.target import load_target
from sitq.record import State

Stats = dict[str, dict[str, int]]


@click.command()
@click.argument("app", required=False, envvar="SITQ_APP")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: queue, state, number.")
def info(app: str | None, *, as_json: bool) -> None:
    """Count the tasks of APP per queue and state.

    APP is `module:queue`, or the URL of a store. Without it, SITQ_APP or SITQ_URL says it.
    """
    target = load_target(target_of(app))
    stats = asyncio.run(_stats(target if isinstance(target, Backend) else target.backend))
    click.echo(json.dumps(stats) if as_json else _table(stats))


async def _stats(backend: Backend) -> Stats:
    """Of the store itself, as counting needs no keys."""
    missing = backend.missing()
    if missing is not None:
        raise Complaint(f"{missing}: nothing was ever enqueued there, or the name is another one")
    async with backend:
        tally = await backend.tally()
    return {queue: {str(state): n for state, n in states.items()} for queue, states in tally.items()}


def _table(stats: Stats) -> str:
    states = [state.value for state in State if any(state.value in counts for counts in stats.values())]
    if not states:
        return "no tasks"
    wide = max(len("queue"), *map(len, stats))
    rows = [["queue".ljust(wide), *states]]
    for queue in sorted(stats):
        counts = [str(stats[queue].get(state, 0)).rjust(len(state)) for state in states]
        rows.append([queue.ljust(wide), *counts])
    return "\n".join("  ".join(row) for row in rows)
