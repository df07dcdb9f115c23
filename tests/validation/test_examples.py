"""The examples run, and show what they promise to show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SHOWN = {
    "examples/around/dependencies.py": [
        r"client opened\n\['content of /a', 'content of /b'\]\n",
        r"stored 7\nrolled back: .*\nfailed\nclient closed",
    ],
    "examples/around/events.py": [
        "alert: attempt 1 retried: the other side hung up",
        r"\d enqueued\n(.*\n)*\d retried\nand later: started, succeeded, worker_stopped",
    ],
    "examples/around/lifespan.py": [
        r"opening\napple costs 3\npear costs 4\n2 prices are known\nclosing, asked for: apple, pear",
    ],
    "examples/around/middleware.py": [r"attempt 1 of who took 0\.\d+ s\n(.*\n)*hello, Ada"],
    "example_end_to_end.py": [
        "result: page 7",
        "result: 1229",
        "failed: ZeroDivisionError: division by zero",
        "not finished in time: None",
        "closed",
    ],
    "examples/basic/api_demo.py": ["TaskQueue", "SQLiteBackend", "Worker", "result: Hello, World!"],
    "examples/basic/control.py": [
        "failed: send 'ada' the mail server is away",
        r"paused: \[\('queue', 'emails', 'the mail server is away'\)\]",
        "retried: 3 and once more: 0",
        "cancelled: 1",
        "worked: .*'sent to ada', 'sent to bob'",
        "brought forward: sent to dan",
        "full: .*'queued': 2",
        "purged: 7",
    ],
    "examples/basic/declared_tasks.py": [
        r"called: a.png at 100 \| Resize an image\.",
        "enqueued: a.png at 20",
        "routed: welcome a@b.c",
        "method: a@b.c by example.org",
    ],
    "examples/basic/limits.py": [
        "took at least half a second: True",
        "most at once for one customer: 1",
        r"the small tenant was done after ([5-9]|1\d) of 55 starts",
    ],
    "examples/basic/uniqueness.py": [
        "two enqueues, one task: True",
        "held by a task: True",
        "searched for sitq",
        "an hour has not passed: mirrored home",
    ],
    "examples/basic/bulk.py": [
        "1,001 tasks in one call\nnone of them: .*too many",
        r"stored: 1001\n\[0, 1, 2, 3, 499500, None\]",
    ],
    "examples/basic/interpreters.py": [r"own: 10|refused: .*3\.14"],
    "examples/basic/patience.py": [
        r"open after [3-9] looks\ncalled: \[0, 1, 2\]",
        "nobody called for 0.3 s: True\nretries used: 0",
    ],
    "examples/basic/eta.py": [r"first\n.*second\n.*third"],
    "examples/basic/flows.py": [
        "letters in Emma: 24",
        r"flowchart TD\n +n0\[\"total<br/>.*completed\"\]",
        "letters that could be counted: 8",
        "3 of 3 ended",
        "two letters: 2 completed, 1 failed",
    ],
    "examples/basic/handles.py": [
        r"update: queued\n(update: running\n)?update: success\nvalue: page 1",
        r"ended: page 1\nended: page 2\nended: page 3",
        "gathered: .*'page 3', 'page 1', 'page 2'",
        "words: 6",
        "failed: LookupError there is no page 4",
        "now: pending",
        "cancelled: not needed any more",
    ],
    "examples/basic/retries.py": ["worked at attempt 3", "now it is ready"],
    "examples/basic/typed_payloads.py": [
        r"leaves at 2030-05-02T08:00:00\+00:00 with rome.pdf",
        'stored as {"traveller":"00000000-',
        r"refused: keyword argument 'by' of postpone\(\) does not fit its annotation timedelta",
    ],
    "examples/basic/secrets_and_spill.py": [
        "5,000,000 bytes for somebody with 13 letters",
        r"shown as: <5000000 bytes>, \*\*\*",
        r"failed: PermissionError: \*\*\* is not the password",
        "the document no, the password no",
        "beside it: 1 file",
    ],
    "examples/basic/steps.py": [
        "^charging visa\nsent receipt for visa at attempt 3",
        "progress: .*charged.*, sent",
        "given up: PermissionError: no access",
    ],
    "examples/basic/task_processes.py": [
        r"\(332833500, True\)\n.*longer than its time-out of 0.3 s\n.*came back",
    ],
    "examples/basic/sync_context.py": ["1 / 4 = 0.25", "1 / 0 failed: .*division by zero"],
    "examples/basic/worker_processes.py": ["squares: 0 1 4 9 16 25 36 49", r"worker processes: [12]"],
    "examples/demo/run.py": [
        r"\d+ tasks are in .*tasks.db",
        r"async function +20 .*page 1 … page 20",
        r"lambda, by value +8 ",
        "worked at attempt 3",
        "ZeroDivisionError: division by zero",
        r"Process \d+ was killed; its task started again in process \d+, \d+ ms later",
        "All 41 tasks ended as expected; the workers stopped with exit code 0",
    ],
    "examples/shop/run.py": [
        "worker .*: open",
        r"The fruit shop to ada: thank you, 10 paid\n(.*\n)*The fruit shop to bob: thank you, 20 paid",
        "no mail to eve: .*cancelled",
        "forecast: 328350",
        "worker .*: closed",
        "the workers stopped with exit code 0",
    ],
}

MODULES = {
    "examples/demo/work.py",
    "examples/shop/mails.py",
    "examples/shop/produce.py",
    "examples/shop/stock.py",
    "examples/shop/tasks.py",
}
"""What the examples consist of beside the scripts that are run here."""


def test_every_example_is_run_here():
    scripts = [*ROOT.glob("example*.py"), *ROOT.glob("examples/*/*.py")]
    assert {str(each.relative_to(ROOT)) for each in scripts} - MODULES == set(SHOWN)


@pytest.mark.parametrize("script", SHOWN)
def test_it_shows_what_it_promises(script, tmp_path):
    command = [sys.executable, "-W", "error", str(ROOT / script)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for pattern in SHOWN[script]:
        assert re.search(pattern, ended.stdout), f"{pattern} is not in:\n{ended.stdout}"
    assert list(tmp_path.iterdir()) == []  # it cleans up
