"""The write-ahead log of a SQLite file does not grow with what is written, nor wait for a pause."""

from sitq.backends.sqlite import SQLiteBackend
from sitq.record import Record

MIB = 1 << 20


def length(path):
    return path.with_name(f"{path.name}-wal").stat().st_size


async def test_the_log_starts_anew_while_it_is_written(tmp_path):
    """Without checkpoints it would have 16 MiB in the end."""
    path = tmp_path / "tasks.db"
    longest = 0
    async with SQLiteBackend(path) as store:
        for batch in range(120):
            await store.put([[Record(id=f"{batch}-{n}", name="work")] for n in range(500)])
            longest = max(longest, length(path))
    assert MIB < longest < 8 * MIB
