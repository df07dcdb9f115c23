"""The workloads, by the names that `--only` takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from bench.plan import Plan
from bench.row import Row
from bench.stores.store import Store
from bench.workloads import backlog, cost, drain, enqueue, idle, latency, rss

Workload = Callable[[Store, Plan], Awaitable[Sequence[Row]]]

WORKLOADS: Final[dict[str, Workload]] = {
    "enqueue-sequential": enqueue.sequential,
    "enqueue-bulk": enqueue.bulk,
    "enqueue-concurrent": enqueue.concurrent,
    "drain": drain.noop,
    "io": drain.io,
    "latency": latency.measure,
    "idle": idle.measure,
    "rss": rss.measure,
    "backlog": backlog.measure,
    "cost": cost.measure,
}
