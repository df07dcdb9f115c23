"""What the suite did not test of a store, printed at the end of a run.

The suite registers this plugin itself when its first test runs. With pytest-xdist the tests run elsewhere
than the summary; there, name it in the root `conftest.py`:
`pytest_plugins = ["sitq.testing.conformance.skips"]`.
"""

from __future__ import annotations

import sys

import pytest

from sitq.testing.conformance.store import SKIP


def register(config: pytest.Config) -> None:
    """Have the list printed, once."""
    plugin = sys.modules[__name__]
    if not config.pluginmanager.is_registered(plugin):
        config.pluginmanager.register(plugin)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which promises were left out, and why."""
    left_out: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        _, skipped_here, reason = str(report.longrepr).rstrip("')").partition(SKIP)
        if skipped_here:
            left_out.setdefault(reason, []).append(report.nodeid.rpartition("::")[2])
    if left_out:
        terminalreporter.section("promises left out")
        for reason, tests in sorted(left_out.items()):
            terminalreporter.write_line(f"{reason}:")
            for test in sorted(tests):
                terminalreporter.write_line(f"  {test}")
