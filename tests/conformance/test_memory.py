from sitq.backends.base import Backend
from sitq.backends.memory import MemoryBackend
from sitq.testing.conformance import BackendConformance, Harness


class MemoryHarness(Harness):
    frozen = True
    unit = 1.0

    async def open(self) -> Backend:
        return await self._named("sitq")

    async def reopen(self, backend: Backend, namespace: str | None = None) -> Backend:
        return await self._named(namespace or backend.namespace)

    async def _named(self, namespace: str) -> Backend:
        backend = MemoryBackend.named(str(self.folder), namespace=namespace, clock=self.clock)
        await backend.connect()
        return backend


class TestMemory(BackendConformance):
    harness = MemoryHarness
