"""The server of a storm whose store is on one: real, the storm's own, and harmed like all else.

It is kept by a process of its own, as a storm forks and so has no threads. That process ends the server when
the storm is gone, however that came about.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from sitq.testing.servers import PostgresServer, RedisServer
from sitq.testing.storm.events import Fault, Over
from sitq.testing.storm.journal import VARIABLE, Journal
from sitq.testing.storm.setup import Setup, present
from sitq.testing.storm.stores import url_file

KINDS: Final[Mapping[str, Callable[[], PostgresServer | RedisServer]]] = {
    # A commit is on the disk when it returns, which is its default.
    "postgres": PostgresServer,
    # Each write is on the disk before it is acknowledged: what a killed server has said, it has done.
    "redis": lambda: RedisServer({"appendfsync": "always"}),
}

_PATIENCE: Final = 120.0


class Server:
    """The storm's end of its server."""

    def __init__(self, setup: Setup) -> None:
        """Have it started, and wait until it answers.

        Raises:
            RuntimeError: There is none, or it did not start.
        """
        self._log = setup.place / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sitq.testing.storm.server", setup.served],
                env=os.environ | {VARIABLE: setup.folder},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,  # an interrupt from the keyboard is the storm's
            )
        self.settle()

    def down(self) -> None:
        """Have it killed, and started again."""
        self._say("down")

    def still(self, seconds: float) -> None:
        """Have it stand still for so long."""
        self._say(f"still {seconds}")

    def settle(self) -> None:
        """Wait until all that it was told is done, and it is well."""
        with contextlib.suppress(OSError):
            self._say("ready")
        assert self._process.stdout is not None
        found, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        if not found or not self._process.stdout.readline():
            raise RuntimeError(f"the storm has no server:\n{self._log.read_text()[-2000:]}")

    def close(self) -> None:
        """End it. Idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")


def keep(kind: str, setup: Setup) -> None:
    """Keep a server, and do with it what comes in on stdin, until that ends."""
    journal = Journal(setup.journals, "server")
    with KINDS[kind]() as server:
        url_file(setup.disk).write_text(server.url())
        for line in sys.stdin:
            match line.split():
                case ["down"]:
                    journal.write(Fault(what="server"))
                    server.kill()
                    server.start()
                    journal.write(Over(what="server"))
                case ["still", seconds]:
                    journal.write(Fault(what="server"))
                    server.suspend()
                    time.sleep(float(seconds))
                    server.resume()
                    journal.write(Over(what="server"))
                case _:
                    sys.stdout.write("ready\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    keep(sys.argv[1], present())
