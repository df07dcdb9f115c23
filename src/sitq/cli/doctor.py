"""`sitq doctor`: how a store is, in plain words."""

from __future__ import annotations

import asyncio
from typing import Final

import click
import msgspec

from sitq.backends.base import Backend
from sitq.checkup import Finding
from sitq.cli.complaint import Complaint
from sitq.cli.settings import target_of
from sitq.cli.target import load_target
from sitq.doctor import look
from sitq.keys import KeyRing

_EPILOG = """\b
Exit codes:
  0  all is fine
  1  there are warnings
  2  the command or the store cannot be used as they are
  3  a promise does not hold with these settings"""

_CODES: Final = {"fine": 0, "warning": 1, "error": 3}


@click.command(epilog=_EPILOG)
@click.argument("app", required=False, envvar="SITQ_APP")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array: about, level, what, remedy.")
def doctor(app: str | None, *, as_json: bool) -> int:
    """Say what the settings of a store make of the promises, and what is stuck in it.

    APP is `module:queue`, or the URL of a store. Without it, SITQ_APP or SITQ_URL says it. Nothing
    is changed.
    """
    target = load_target(target_of(app))
    found = asyncio.run(_look(target if isinstance(target, Backend) else target.backend))
    click.echo(msgspec.json.encode(found).decode() if as_json else _table(found))
    return max(_CODES[one.level] for one in found)


async def _look(backend: Backend) -> list[Finding]:
    missing = backend.missing()
    if missing is not None:
        raise Complaint(f"{missing}: there is nothing to look at")
    async with backend:
        return await look(backend, KeyRing.from_environment())


def _table(found: list[Finding]) -> str:
    wide = max(len(one.about) for one in found)
    lines: list[str] = []
    for one in found:
        lines.append(f"{one.level:<7}  {one.about:<{wide}}  {one.what}")
        if one.remedy:
            lines.append(f"{'':<7}  {'':<{wide}}  -> {one.remedy}")
    return "\n".join(lines)
