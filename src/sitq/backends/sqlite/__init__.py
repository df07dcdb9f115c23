"""The store in one SQLite file, for any number of processes on one host.

Acknowledged tasks survive the end of every process and, with `synchronous="FULL"`, the default, a power
loss.
"""

from sitq.backends.sqlite.backend import SQLiteBackend, from_url

__all__ = ["SQLiteBackend", "from_url"]
