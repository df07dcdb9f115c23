"""A Redis or Valkey server of the tests' own."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sitq.testing.servers.lasting import Lasting
from sitq.testing.servers.places import REDIS, Binaries, find, missing
from sitq.testing.servers.process import LOOPBACK, ServerProcess, free_port
from sitq.testing.servers.user import make_folder

SETTINGS: Final[Mapping[str, str | int]] = {
    "bind": LOOPBACK,
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "save": '""',
    "daemonize": "no",
}
"""What most servers run with that are to keep what they were given."""


class RedisServer(Lasting):
    """Redis on a free port of the loopback, with its data in a temporary folder of its own.

    Attributes:
        port: Its port, the same after each start.
        process: The process, to be killed, suspended and started again.
        folder: Where its data and its log lie; gone after `close`.
    """

    def __init__(
        self,
        settings: Mapping[str, str | int] | None = None,
        *,
        lines: Sequence[str] = (),
        password: str | None = None,
        binaries: Path | None = None,
        kind: Binaries = REDIS,
    ) -> None:
        """Prepare a server; `start` starts it.

        Args:
            settings: Lines of `redis.conf` that take the place of those in `SETTINGS` or stand beside them,
                such as `maxmemory`, `cluster-enabled`, `tls-port`, `unixsocket`. Paths are relative to
                the folder.
            lines: More of them, for what may stand there twice, such as `user` and `rename-command`.
            password: That of the default user; None asks for none.
            binaries: The folder of the binaries; None finds it.
            kind: `REDIS` or `VALKEY`.

        Raises:
            FileNotFoundError: There are no binaries.
        """
        found = binaries or find(kind)
        if found is None:
            raise FileNotFoundError(missing(kind))
        self.port = free_port()
        self.folder = make_folder("sitq-redis-", None)
        self._settings: dict[str, str | int] = {"port": self.port, "dir": str(self.folder)}
        self._settings |= SETTINGS
        self._settings |= settings or {}
        self._lines = [*lines, *([] if password is None else [f"requirepass {password}"])]
        self._password = password
        self.process = ServerProcess(
            [found / kind.needed[0], self.folder / "redis.conf"], self.folder / "log", self._ready
        )

    def url(self, *, user: str = "", password: str | None = None, database: int = 0) -> str:
        """The server's URL, of its default user unless another one is named."""
        secret = password or (self._password if not user else None)
        login = f"{user}:{secret}@" if secret is not None else ""
        return f"redis://{login}{LOOPBACK}:{self.port}/{database}"

    def start(self) -> None:
        """Start it with the data that it has, and wait until it answers."""
        lines = [f"{name} {value}" for name, value in self._settings.items()]
        (self.folder / "redis.conf").write_text("\n".join([*lines, *self._lines]) + "\n")
        self.process.start()

    def kill(self) -> None:
        """End it at once, without its knowing."""
        self.process.kill()

    def stop(self) -> None:
        """Let it end."""
        self.process.stop()

    def restart(self) -> None:
        """Stop it and start it again, with its data."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """Let it stand still, its connections open."""
        self.process.suspend()

    def resume(self) -> None:
        """Let it go on."""
        self.process.resume()

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ready(self) -> bool:
        if "unixsocket" in self._settings:
            place = self.folder / str(self._settings["unixsocket"])
            return place.exists() and _answers(socket.AF_UNIX, str(place))
        if not self._settings["port"]:  # TLS alone; that it listens has to do
            return _listens(int(self._settings["tls-port"]))
        return _answers(socket.AF_INET, (LOOPBACK, int(self._settings["port"])))


def _answers(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.socket(family) as connection:
        connection.settimeout(1.0)
        connection.connect(address)
        connection.sendall(b"PING\r\n")
        # It asks for a password when it is ready, and says LOADING while it is not.
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
    return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1.0):
        return True
    return False
