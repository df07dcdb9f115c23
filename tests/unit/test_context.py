import asyncio
import threading

import pytest

from sitq.context import CurrentTask, current, current_task
from sitq.exceptions import WorkerError


def test_outside_of_a_task_there_is_none():
    with pytest.raises(WorkerError, match="outside of a task"):
        current_task()


async def test_each_asyncio_task_has_its_own():
    async def who(task_id):
        current.set(CurrentTask(task_id, "f", "q", 1))
        await asyncio.sleep(0)
        return current_task().id

    assert await asyncio.gather(who("a"), who("b")) == ["a", "b"]


def test_a_thread_of_the_users_own_has_none():
    found = []

    def look():
        try:
            current_task()
        except WorkerError as error:
            found.append(error)

    token = current.set(CurrentTask("a", "f", "q", 1))
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    current.reset(token)
    assert len(found) == 1


def test_it_reads_as_what_it_is():
    assert repr(CurrentTask("a", "m:f", "q", 2)) == "<CurrentTask a m:f attempt 2>"
