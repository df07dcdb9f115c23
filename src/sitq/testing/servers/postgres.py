"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sitq.testing.servers.lasting import Lasting
from sitq.testing.servers.places import POSTGRES, find, missing
from sitq.testing.servers.process import LOOPBACK, ServerError, ServerProcess, end, free_port, send
from sitq.testing.servers.user import give, make_folder, other_user, reachable_copy

OWNER: Final = "sitq"
"""The superuser of the server."""

SETTINGS: Final[Mapping[str, str | int]] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "64MB",
    "max_connections": 200,
    "max_wal_size": "1GB",
    "timezone": "UTC",
}
"""What a commit promises is what it promises in production; only sizes are those of a small machine."""


class PostgresServer(Lasting):
    """PostgreSQL on a free port of the loopback, with its data in a temporary folder of its own.

    Attributes:
        port: Its port, the same after each start.
        process: The process, to be killed, suspended and started again.
        folder: Where its data and its log lie; gone after `close`.
    """

    def __init__(
        self,
        settings: Mapping[str, str | int] | None = None,
        *,
        access: Sequence[str] = (),
        password: str | None = None,
        binaries: Path | None = None,
        standby_of: PostgresServer | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Prepare a server; `start` starts it.

        Args:
            settings: Lines of `postgresql.conf` beside `SETTINGS`. A path in them is relative to the data.
            access: Lines of `pg_hba.conf` before the one that lets the loopback in.
            password: The superuser's; None asks for none.
            binaries: The folder of the binaries; None finds it.
            standby_of: A running server whose data this one takes over when it is started first, and follows
                until it is promoted; settings and access are that server's then.
            files: What else lies in the data, such as a key and a certificate.

        Raises:
            FileNotFoundError: There are no binaries.
            NoUserError: The present user is root, and there is no other one.
        """
        found = binaries or find(POSTGRES)
        if found is None:
            raise FileNotFoundError(missing(POSTGRES))
        self._user = other_user()
        self._password = password
        self._access = [
            *access,
            f"host all,replication all {LOOPBACK}/32 {'trust' if password is None else 'scram-sha-256'}",
        ]
        self._standby_of = standby_of
        self._files = files or {}
        self._settings = {**SETTINGS, **(settings or {})}
        self.port = free_port()
        self.folder = make_folder("sitq-postgres-", self._user)
        self.binaries = reachable_copy(found, self.folder, self._user)
        self.data = self.folder / "data"
        self.process = ServerProcess(
            [self.binaries / "postgres", "-D", self.data, "-p", str(self.port)],
            self.folder / "log",
            self._ready,
            user=self._user,
        )

    def url(self, *, user: str = OWNER, password: str | None = None, database: str = "postgres") -> str:
        """The server's URL, of its superuser by default."""
        secret = password or (self._password if user == OWNER else None)
        login = user if secret is None else f"{user}:{secret}"
        return f"postgresql://{login}@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, the first time with new data, and wait until it takes connections."""
        if not self.data.exists():
            self._make_data() if self._standby_of is None else self._copy_data(self._standby_of)
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed: its id may be taken
        self.process.start()

    def kill(self) -> None:
        """End the server and those who serve its connections at once, without their knowing."""
        children = self._children()
        self.process.kill()
        for pid in children:
            end(pid)

    def stop(self) -> None:
        """End it, without waiting for its connections to end."""
        self.resume()
        self.process.stop(signal.SIGINT)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """Let the server and those who serve its connections stand still."""
        self.process.suspend()
        for pid in self._children():
            send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let all of it go on."""
        for pid in self._children():
            send(pid, signal.SIGCONT)
        self.process.resume()

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_data(self) -> None:
        arguments: list[str | Path] = ["-D", self.data, "-U", OWNER, "-A", "trust", "-E", "UTF8"]
        arguments += ["--locale=C", "--no-sync", "--wal-segsize=1"]
        if self._password is not None:
            secret = self.folder / "password"
            secret.write_text(self._password)
            secret.chmod(0o644)  # in a folder that is closed to others
            arguments += ["--pwfile", secret]
        self._run("initdb", *arguments)
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._settings.items())
        (self.data / "pg_hba.conf").write_text("".join(line + "\n" for line in self._access))
        for name, content in self._files.items():
            (self.data / name).write_bytes(content)
            (self.data / name).chmod(0o600)  # a key that others may read is refused
            give(self.data / name, self._user)

    def _copy_data(self, primary: PostgresServer) -> None:
        # `-R` writes standby.signal, and whom to follow.
        self._run("pg_basebackup", "-d", primary.url(), "-D", self.data, "-R", "-c", "fast", "--no-sync")

    def _run(self, program: str, *arguments: str | Path) -> None:
        # A folder in PATH may have no more than links to what is needed.
        folder = (self.binaries / "initdb").resolve().parent
        made = subprocess.run(  # noqa: S603 - the command is made of found binaries
            [folder / program, *arguments],
            cwd=self.folder,
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ServerError(f"{program} ended with {made.returncode}:\n{made.stdout}{made.stderr}")

    def _ready(self) -> bool:
        # Its eighth line says so since PostgreSQL 10; pg_ctl waits for the same.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() in {"ready", "standby"}

    def _children(self) -> list[int]:
        # Without /proc only the postmaster stands still, and its connections go on.
        if not self.process.running:
            return []
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(pid) for pid in text.split()]
