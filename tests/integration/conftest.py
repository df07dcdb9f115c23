import pytest

from sitq.backends.memory import MemoryBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.record import TERMINAL


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request, tmp_path):
    """A connected store of the test's own."""
    store = MemoryBackend() if request.param == "memory" else SQLiteBackend(tmp_path / "tasks.db")
    async with store:
        yield store


@pytest.fixture
def ended(stored, eventually):
    """A task's record once it is terminal."""

    async def wait(task_id, seconds=10.0):
        async def terminal():
            record = await stored(task_id)
            return record if record is not None and record.state in TERMINAL else None

        return await eventually(terminal, seconds)

    return wait
