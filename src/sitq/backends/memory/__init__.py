"""The store in the memory of this process: the readable specification of what every other store does."""

from sitq.backends.memory.backend import MemoryBackend, from_url

__all__ = ["MemoryBackend", "from_url"]
