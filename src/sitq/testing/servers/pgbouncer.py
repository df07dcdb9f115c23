"""A PgBouncer of the tests' own, before a PostgreSQL server on the loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from sitq.testing.servers.lasting import Lasting
from sitq.testing.servers.places import PGBOUNCER, find, missing
from sitq.testing.servers.process import LOOPBACK, ServerProcess, free_port
from sitq.testing.servers.user import give, make_folder, other_user

CONNECTIONS: Final = 3
"""To the server: fewer than its clients have, so that sessions change hands all the time."""

CONFIGURATION: Final = """\
[databases]
{database} = host={host} port={server} dbname={database} user={user}
[pgbouncer]
listen_addr = {loopback}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {connections}
max_client_conn = 200
"""


class PgBouncer(Lasting):
    """PgBouncer on a free port of the loopback, in transaction mode unless told otherwise.

    Attributes:
        port: Its port.
        process: The process.
    """

    def __init__(
        self,
        server: str,
        *,
        mode: Literal["session", "transaction"] = "transaction",
        binaries: Path | None = None,
    ) -> None:
        """Prepare it; `start` starts it.

        Args:
            server: The URL of the PostgreSQL server behind it, which asks for no password.
            mode: What a client has a connection to the server for.
            binaries: The folder of the binary; None finds it.

        Raises:
            FileNotFoundError: There is none.
            NoUserError: The present user is root, and there is no other one.
        """
        found = binaries or find(PGBOUNCER)
        if found is None:
            raise FileNotFoundError(missing(PGBOUNCER))
        parts = urlsplit(server)
        self._server = server
        self.port = free_port()
        user = other_user()  # it refuses to be run by root
        self.folder = make_folder("sitq-pgbouncer-", user)
        file = self.folder / "pgbouncer.ini"
        file.write_text(
            CONFIGURATION.format(
                host=parts.hostname,
                server=parts.port or 5432,
                user=parts.username,
                database=parts.path.removeprefix("/"),
                loopback=LOOPBACK,
                port=self.port,
                mode=mode,
                connections=CONNECTIONS,
            )
        )
        give(file, user)
        self.process = ServerProcess(
            [found / "pgbouncer", file], self.folder / "log", self._listens, user=user
        )

    def url(self) -> str:
        """The server's URL, through it."""
        parts = urlsplit(self._server)
        return parts._replace(netloc=f"{parts.username}@{LOOPBACK}:{self.port}").geturl()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process.start()

    def close(self) -> None:
        """End it and remove its folder."""
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1.0):
            return True
        return False
