"""A process that keeps a server for as long as another process lives.

`python -m sitq.testing.servers.keeper postgres FILE PID` starts a server, writes its URL into the file
when it is ready, and ends it when the process with that id is gone, when told to (SIGTERM), or when the file
is gone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sitq.testing.servers.places import OLD_REDIS, VALKEY
from sitq.testing.servers.postgres import PostgresServer
from sitq.testing.servers.process import ServerError, alive, send
from sitq.testing.servers.redis import RedisServer
from sitq.testing.servers.redis_cluster import RedisCluster

KINDS: Final[Mapping[str, Callable[[], PostgresServer | RedisServer | RedisCluster]]] = {
    "postgres": PostgresServer,
    "redis": RedisServer,
    "redis-cluster": RedisCluster,
    "old-redis": lambda: RedisServer(kind=OLD_REDIS),
    "valkey": lambda: RedisServer(kind=VALKEY),
}

LOOK_EVERY: Final = 0.2
"""Seconds between two looks at whom the server is kept for."""

READY_WITHIN: Final = 90.0


def keep(kind: str, file: Path, owner: int) -> str:
    """Have a server kept in a process of its own while the owner lives; its URL.

    Raises:
        ServerError: It could not be started; the message says why.
    """
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-m", "sitq.testing.servers.keeper", kind, str(file), str(owner)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # an interrupt from the keyboard is pytest's
        )
    deadline = time.monotonic() + READY_WITHIN
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            send(process.pid, signal.SIGTERM)
            raise ServerError(f"no {kind} server: {log.read_text(errors='replace').strip()[-2000:]}")
        time.sleep(0.02)
    process.returncode = 0  # it outlives this process, which is not to warn that it still runs
    return file.read_text()


def main(kind: str, file: Path, owner: int) -> None:
    """Start the server and keep it."""
    ended = False

    def stop(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, stop)
    with KINDS[kind]() as server:
        partial = file.with_suffix(".partial")
        partial.write_text(server.url())
        partial.rename(file)
        while not ended and alive(owner) and file.exists():
            time.sleep(LOOK_EVERY)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
