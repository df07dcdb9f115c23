"""`sitq migrate`: the tables that a store needs."""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable

import click

from sitq.backends.base import Backend
from sitq.cli.complaint import Complaint
from sitq.cli.settings import target_of
from sitq.cli.target import load_target


@runtime_checkable
class Migrating(Protocol):
    """A store whose tables are made and changed by whoever operates it."""

    async def migrate(self) -> int:
        """Make or change the tables; answers how many steps that took."""
        ...

    def migrations(self) -> str:
        """The SQL that makes them where there are none."""
        ...


@click.command()
@click.argument("app", required=False, envvar="SITQ_APP")
@click.option("--sql", is_flag=True, help="Print the SQL that makes the tables, and change nothing.")
def migrate(app: str | None, *, sql: bool) -> None:
    """Make the tables of APP's store, or bring them to the present version.

    APP is `module:queue`, or the URL of a store. Without it, SITQ_APP or SITQ_URL says it.
    """
    target = load_target(target_of(app))
    backend = target if isinstance(target, Backend) else target.backend
    if not isinstance(backend, Migrating):
        raise Complaint(f"{backend!r} needs no migration: it makes what it needs when it is opened")
    if sql:
        click.echo(backend.migrations(), nl=False)
        return
    steps = asyncio.run(backend.migrate())
    click.echo(f"{backend!r}: {steps} {'step' if steps == 1 else 'steps'} done" if steps else "up to date")
