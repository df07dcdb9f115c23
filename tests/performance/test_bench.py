"""The benchmark measures everything that it promises to; how fast it is, it only reports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EVERYWHERE = {
    "enqueue-sequential",
    "enqueue-bulk",
    "enqueue-concurrent",
    "drain",
    "io",
    *(f"{what}-{share}" for what in ("start", "result") for share in ("p50", "p95", "p99")),
    "idle-cpu",
    "idle-calls",
    *(f"backlog-{depth}" for depth in ("10k", "100k", "1m", "1m-just-loaded")),
    *(f"backlog-{obstacle}" for obstacle in ("left", "paused", "key-paused", "limited")),
    *(f"cost-{kind}" for kind in ("plain", "slots", "rate", "100-keys", "dependency")),
    *(f"cost-{kind}" for kind in ("task", "task-depends-on", "task-takes-value")),
    *(f"cost-task-{kind}" for kind in ("slots", "rate", "100-tenants", "unique")),
}
IN_A_PROCESS_OF_ITS_OWN = {"rss-started", "rss-draining"}


@pytest.mark.performance
@pytest.mark.timeout(300)
def test_a_quick_run_measures_every_workload_on_every_store(tmp_path):
    found = tmp_path / "found.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json", str(found)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    data = json.loads(found.read_text())
    assert {"Python", "event loop", "stores", "machine"} <= data["facts"].keys()
    assert {(row["store"], row["workload"]) for row in data["rows"]} == {
        *(("memory", each) for each in EVERYWHERE),
        *(("sqlite", each) for each in EVERYWHERE | IN_A_PROCESS_OF_ITS_OWN),
    }
    for row in data["rows"]:
        assert row["figure"] is not None, row
        assert f"| {row['workload']} " in run.stdout
