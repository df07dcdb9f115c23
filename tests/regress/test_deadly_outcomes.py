"""What tasks raise and return, and how their processes die: each ends readably, or runs again."""

import importlib
import os
import sys

import pytest

from sitq import Task, Worker
from sitq.record import State

CALLS: list[object] = []


class NeedsTwo(Exception):
    """Can be pickled, and fails only when it is loaded."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class NotToBePickled(Exception):
    def __reduce__(self):
        raise TypeError("no pickles")


async def raise_it(kind):
    raise {"needs two": NeedsTwo, "no pickle": NotToBePickled}[kind](1, 2) from None


async def give_a_lock():
    import threading  # noqa: PLC0415

    return threading.Lock()


async def note(what):
    CALLS.append(what)
    return what


async def tell(_batch=None):
    CALLS.append("told")


APP = """
import os, signal
from pathlib import Path
from sitq import current_task

def killed_at_first(path):
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return current_task().attempt
"""


@pytest.mark.parametrize("kind", ["needs two", "no pickle"])
async def test_an_exception_that_cannot_be_pickled_ends_its_task_and_not_the_worker(
    queue, working, value_of, kind
):
    """Celery: an exception that could not be pickled, or not be loaded, ended the worker, again and again.

    https://github.com/celery/celery/issues/6185
    https://github.com/celery/celery/issues/6990
    https://github.com/celery/celery/issues/2943
    """
    async with working():
        result = await queue.get_result(await queue.enqueue(raise_it, kind), timeout=10)
        assert await value_of(await queue.enqueue(note, "next")) == "next"
    assert result.status == "failed"
    assert result.error


async def test_a_result_that_cannot_be_pickled_is_not_computed_again(queue, working, stored):
    """Celery: the task had done its work, and was delivered anew since its result could not be written.

    https://github.com/celery/celery/issues/6185
    """
    async with working():
        task_id = await queue.options(retry=5).enqueue(give_a_lock)
        assert (await queue.get_result(task_id, timeout=10)).status == "failed"
    assert (await stored(task_id)).attempt == 1


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.timeout(120)
async def test_a_task_whose_process_is_killed_is_not_acknowledged_but_runs_again(
    queue, working, value_of, tmp_path, monkeypatch
):
    """Celery: with acks_late the message of a child that the system had killed was acknowledged all the same.

    https://github.com/celery/celery/issues/1628
    """
    name = f"deadly_{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    function = importlib.import_module(name).killed_at_first
    async with working():
        task_id = await queue.options(executor="process").enqueue(function, str(tmp_path / "killed"))
        assert await value_of(task_id, 100) == 2


async def test_the_callback_of_a_batch_runs_once_however_often_its_members_died(queue, backend, eventually):
    """Celery: the callback of a chord was lost, or came in an endless loop, when a worker died on the way.

    https://github.com/celery/celery/issues/1700
    https://github.com/celery/celery/issues/9674
    https://github.com/celery/celery/issues/3363
    """
    from sitq.backends.base import Share, Want  # noqa: PLC0415
    from sitq.functions import python_version  # noqa: PLC0415
    from sitq.ids import token  # noqa: PLC0415
    from sitq.move import Lapse  # noqa: PLC0415

    CALLS.clear()
    await queue.batch([Task(note, (n,)) for n in range(4)], on_success=Task(tell))
    for _ in range(6):  # members and the callback are claimed by workers that die, and done by one that lives
        want = Want(
            claim=token(),
            worker="dying",
            queues=(Share("default", 2),),
            limit=2,
            lease=10**8,
            python=python_version(),
        )
        dead = (await backend.take(want)).records
        await backend.apply([Lapse(id=one.id, token=one.token) for one in dead])
        if not dead:
            break
        await Worker(backend, max_concurrency=1).run(burst=True)
    await eventually(lambda: "told" in CALLS)
    assert sorted(map(str, CALLS)) == ["0", "1", "2", "3", "told"]
    counts = await backend.tally()
    assert set(counts["default"]) == {State.COMPLETED}
