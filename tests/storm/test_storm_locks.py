"""Who keeps all others from writing to a file: a storm writes that down of those that it suspends."""

import contextlib
import subprocess
import sys

import pytest

from sitq.testing.storm.stage import holds_lock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has locked what")

WRITER, CHECKPOINT, READERS = 120, 121, 123
"""Bytes of the shared memory of a SQLite file, see https://sqlite.org/walformat.html#wal_locks."""

FILE = """
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE t (x)")
"""
WRITES = FILE + 'db.execute("BEGIN IMMEDIATE")'
READS = FILE + 'db.execute("BEGIN"); db.execute("SELECT * FROM t").fetchall()'
LOCKS = """
file = open(sys.argv[1], "w")
for byte in sys.argv[2:]:
    fcntl.lockf(file, fcntl.LOCK_EX, 1, int(byte))
"""


@contextlib.contextmanager
def doing(program, *arguments):
    """A process that has done this and stays as it is."""
    program = f"import fcntl, sqlite3, sys\n{program}\nprint(flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        yield process.pid
        process.stdin.close()


@pytest.mark.parametrize(("program", "holds"), [(WRITES, True), (READS, False)], ids=["writes", "reads"])
def test_who_is_within_a_transaction_that_writes_keeps_others_from_it(tmp_path, program, holds):
    with doing(program, tmp_path / "tasks.db") as pid:
        assert holds_lock(pid) is holds


@pytest.mark.parametrize(
    ("locked", "holds"),
    [((CHECKPOINT, READERS), False), ((WRITER, CHECKPOINT, READERS), True)],
    ids=["beside the commits", "within one"],
)
def test_a_checkpoint_beside_the_commits_keeps_nobody_from_writing(tmp_path, locked, holds):
    with doing(LOCKS, tmp_path / "tasks.db-shm", *locked) as pid:
        assert holds_lock(pid) is holds
