"""The backend contract as a test suite, for every store: sitq's own and those of others.

A store joins with one factory:

    class MyHarness(Harness):
        async def open(self) -> Backend:
            backend = MyBackend(self.folder)
            await backend.connect()
            return backend

    class TestMyStore(BackendConformance):
        harness = MyHarness

It needs pytest and pytest-asyncio, in whichever of its modes.
"""

import pytest

# The promises are no test modules by name, so their asserts would say nothing when they fail.
pytest.register_assert_rewrite("sitq.testing.conformance.promises", "sitq.testing.conformance.store")

from sitq.testing.conformance.harness import Harness, ManualClock  # noqa: E402 - after the line above
from sitq.testing.conformance.store import Store, task  # noqa: E402
from sitq.testing.conformance.suite import BackendConformance, OpenStore  # noqa: E402

__all__ = ["BackendConformance", "Harness", "ManualClock", "OpenStore", "Store", "task"]
