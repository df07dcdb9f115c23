"""What `sitq worker` takes over from the queue that an application declares its functions with."""

import subprocess
import sys

BLOCKING = """
from sitq import SyncTaskQueue

blocking = SyncTaskQueue(backend, queue="views")


@blocking.task(retry=1)
def shout(text):
    return text.upper()


@blocking.on("failed", "succeeded")
def hear(event):
    with open(Path(__file__).parent / "heard", "a") as file:
        file.write(event.kind + "\\n")


@blocking.task
def fail():
    raise ValueError("no")
"""


def test_a_queue_without_an_event_loop_is_served_and_its_listeners_hear_of_attempts(place):
    place.file.write_text(place.file.read_text() + BLOCKING)
    enqueue = (
        f"import {place.name} as app\n"
        "with app.blocking as queue: print(queue.enqueue(app.shout, 'a'), queue.enqueue(app.fail))"
    )
    subprocess.run(
        [sys.executable, "-c", enqueue], cwd=place.folder, env=place.environment(), timeout=30, check=True
    )
    ended = place.run("worker", f"{place.name}:blocking", "--burst")
    assert ended.returncode == 0, ended.stderr
    assert sorted((place.file.parent / "heard").read_text().split()) == ["failed", "succeeded"]


def test_what_looks_like_a_queue_is_suggested_and_not_a_function(place):
    place.file.write_text(place.file.read_text() + "\ndef quue(): ...\nnope_ = 1\n")
    ended = place.run("worker", f"{place.name}:nope")
    assert ended.returncode == 2
    assert f"{place.name}:queue" in ended.stderr
    assert "nope_" not in ended.stderr
