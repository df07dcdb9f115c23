"""Fixtures for tests that need a server: `pytest_plugins = ["sitq.testing.servers.plugin"]`.

A run has one server of each kind, started when the first test asks for it, and shared by the processes of
pytest-xdist. Each test takes a schema or a prefix of keys of its own. Where no server can be had, the tests
that ask for one are skipped, which the end of the run says in one line; with `CI` set they fail, but for
those that ask for what some platforms do not have at all.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from sitq.testing.servers.keeper import keep
from sitq.testing.servers.pgbouncer import PgBouncer
from sitq.testing.servers.places import (
    OLD_REDIS,
    PGBOUNCER,
    POSTGRES,
    REDIS,
    VALKEY,
    Binaries,
    find,
    given,
    missing,
)
from sitq.testing.servers.process import ServerError
from sitq.testing.servers.user import NoUserError, other_user

NOT_TESTED = "not tested: "
"""What the reason of a skip begins with that a missing server causes."""


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the run's PostgreSQL server, as its superuser."""
    return _shared("postgres", POSTGRES, tmp_path_factory)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the run's Redis server."""
    return _shared("redis", REDIS, tmp_path_factory)


@pytest.fixture(scope="session")
def old_redis_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the run's server of the oldest Redis that is supported."""
    return _shared("old-redis", OLD_REDIS, tmp_path_factory)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the run's Valkey server."""
    return _shared("valkey", VALKEY, tmp_path_factory)


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the run's Redis cluster of three nodes."""
    return _shared("redis-cluster", REDIS, tmp_path_factory, running=False)


@pytest.fixture(scope="session")
def postgres_binaries() -> Path:
    """Where the binaries of PostgreSQL are, for tests that start servers of their own."""
    return _needed(POSTGRES)


@pytest.fixture(scope="session")
def redis_binaries() -> Path:
    """Where the binaries of Redis are, for tests that start servers of their own."""
    return _needed(REDIS)


@pytest.fixture(scope="session")
def old_redis_binaries() -> Path:
    """Where the binaries of the oldest Redis are that is supported."""
    return _needed(OLD_REDIS)


@pytest.fixture(scope="session")
def pgbouncer_binaries() -> Path:
    """Where the binary of PgBouncer is."""
    return _needed(PGBOUNCER)


@pytest.fixture(scope="module")
def pooled_postgres_url(postgres_url: str, pgbouncer_binaries: Path) -> Iterator[str]:
    """The URL of the run's PostgreSQL server through a PgBouncer in transaction mode."""
    with PgBouncer(postgres_url, binaries=pgbouncer_binaries) as pooler:
        yield pooler.url()


@pytest.fixture
def own_server() -> Iterator[Callable[..., object]]:
    """Start servers that this test alone uses: `own_server(RedisServer, {"maxmemory": "8mb"})`."""
    started: list[object] = []

    def start(kind: Callable[..., object], *arguments: object, **named: object) -> object:
        try:
            server = kind(*arguments, **named)
        except (FileNotFoundError, NoUserError) as error:
            _without(None, str(error))
        started.append(server)
        server.start()  # type: ignore[attr-defined]
        return server

    yield start
    for server in started:
        server.close()  # type: ignore[attr-defined]


def _shared(kind: str, what: Binaries, factory: pytest.TempPathFactory, *, running: bool = True) -> str:
    if running and (url := given(what)):
        return url
    _needed(what)
    folder, owner = _run(factory)
    file = folder / f"{kind}.url"
    with (folder / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists():
            return file.read_text()
        try:
            return keep(kind, file, owner)
        except ServerError as error:
            _without(what, str(error))


def _run(factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder that all processes of this run share, and the process whose end is that of the run."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # its parent is the process that was started as pytest
        return base.parent, os.getppid()
    return base, os.getpid()


def _needed(what: Binaries) -> Path:
    try:
        found = find(what)
        if what in {POSTGRES, PGBOUNCER}:
            other_user()
    except (FileNotFoundError, NoUserError) as error:
        _without(what, str(error))
    if found is None:
        _without(what, missing(what))
    return found


def _without(what: Binaries | None, reason: str) -> NoReturn:
    extra = what is not None and what.extra
    if extra or os.environ.get("CI", "").lower() in {"", "0", "false"}:
        pytest.skip(NOT_TESTED + reason)
    pytest.fail(NOT_TESTED + reason, pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in a line for each server what was not tested."""
    left_out: dict[str, int] = {}
    for report in (*terminalreporter.getreports("skipped"), *terminalreporter.getreports("error")):
        _, because, reason = _said(report).partition(NOT_TESTED)
        if because:
            left_out[reason] = left_out.get(reason, 0) + 1
    for reason, count in sorted(left_out.items()):
        terminalreporter.write_line(f"{NOT_TESTED}{count} tests: {reason}", yellow=True)


def _said(report: pytest.TestReport) -> str:
    match report.longrepr:
        case (_, _, str(reason)):  # of a skip
            return reason
        case failure:
            return str(failure).strip()
