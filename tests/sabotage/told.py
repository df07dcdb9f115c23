"""A plugin of pytest that writes down how each test ended, and why."""

import json
import os
from pathlib import Path


def pytest_runtest_logreport(report):
    if report.outcome == "passed" and report.when != "call":
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    told = {
        "test": report.nodeid,
        "when": report.when,
        "outcome": report.outcome,
        "why": crash.message if crash is not None else str(report.longrepr or ""),
    }
    with Path(os.environ["SABOTAGE_REPORT"]).open("a") as file:
        file.write(json.dumps(told) + "\n")
