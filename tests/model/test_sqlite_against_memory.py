"""The SQLite store against the memory store, step by step.

`SITQ_MODEL=thorough` runs it for hours instead of seconds.
"""

import os

import pytest

from sitq.backends.base import Backend
from sitq.backends.sqlite import SQLiteBackend
from sitq.testing.conformance import Harness
from sitq.testing.model import BackendModel, as_test_case

EXAMPLES, STEPS = (20_000, 100) if os.environ.get("SITQ_MODEL") == "thorough" else (60, 40)


class FileHarness(Harness):
    frozen = True

    async def open(self) -> Backend:
        return await self._at("sitq")

    async def reopen(self, backend: Backend, namespace: str | None = None) -> Backend:
        return await self._at(namespace or backend.namespace)

    async def _at(self, namespace: str) -> Backend:
        backend = SQLiteBackend(
            self.folder / "tasks.db", namespace=namespace, clock=self.clock, synchronous="NORMAL"
        )
        await backend.connect()
        return backend


class SQLiteAgainstMemory(BackendModel):
    harness = FileHarness


# Finding the shortest sequence of steps takes Hypothesis up to five minutes.
@pytest.mark.timeout(0 if EXAMPLES > 1000 else 600)
class TestSQLiteAgainstMemory(
    as_test_case(SQLiteAgainstMemory, max_examples=EXAMPLES, stateful_step_count=STEPS)
):
    pass
