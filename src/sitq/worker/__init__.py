"""Running tasks: a worker and its parts.

`worker` is what users start, `shift` its work, which `claim`s, runs each `attempt`, and `settle`s, while
`leases` keeps what it holds.
"""

from sitq.worker.worker import Worker

__all__ = ["Worker"]
