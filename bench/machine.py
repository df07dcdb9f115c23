"""The machine: what has to be known to read the figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version

from bench import loop
from bench.plan import Plan
from bench.stores.every import STORES


def facts(plan: Plan, stores: Iterable[str]) -> dict[str, str]:
    """What the header says."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "sitq": version("sitq-tasks"),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "event loop": loop.described(uvloop=plan.uvloop),
        "stores": "; ".join(STORES[name].version() for name in stores),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "load before the run": load,
        "figures": f"median of {plan.reps} (least to greatest), the two sides in turns",
        "worker": "one process, max_concurrency=100, everything else by default",
    }
