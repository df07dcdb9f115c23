"""Steps and real kills: what was done is not done again, wherever the task ran."""

import importlib

import pytest

STEPS = """

def charge(path):
    trace(path, "charged")
    return "receipt"


def step(path):
    receipt = current_task().once_sync("charge", charge, path)
    trace(path, "kept")
    if current_task().attempt == 1:
        time.sleep(60)
    return f"{receipt} of attempt {current_task().attempt}"


async def step_async(path):
    receipt = await current_task().once("charge", charge, path)
    trace(path, "kept")
    if current_task().attempt == 1:
        await asyncio.sleep(60)
    return f"{receipt} of attempt {current_task().attempt}"
"""


@pytest.mark.timeout(120)
async def test_a_step_is_done_once_though_its_worker_is_killed_in_a_thread_a_loop_and_a_process(place):
    place.file.write_text(place.file.read_text() + STEPS)
    importlib.reload(place.app)
    queue = place.queue = place.app.queue
    first = place.start("worker", f"{place.name}:queue", "--lease=3")
    path = str(place.traces)
    ids = [
        await queue.enqueue(place.app.step_async, path),
        await queue.enqueue(place.app.step, path),
        await queue.options(executor="process").enqueue(place.app.step, path),
    ]
    await place.until(lambda: len(place.trace("kept")) == 3, 50)

    first.kill()
    place.start("worker", f"{place.name}:queue", "--lease=3")

    assert [await place.value_of(each, 40) for each in ids] == ["receipt of attempt 2"] * 3
    assert len(place.trace("charged")) == 3
    assert len(place.trace("kept")) == 6
