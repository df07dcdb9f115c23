"""Unique tasks: what a second one does, for how long, and when two producers come at once."""

import asyncio
import subprocess
import sys
import textwrap

import pytest

from sitq import SQLiteBackend, Task, TaskQueue, Unique, chain, debounce, throttle
from sitq.backends.base import Filter
from sitq.exceptions import DependencyError, DuplicateTaskError, ValidationError
from sitq.record import State

gate: dict[str, asyncio.Event] = {}
ran: list[int] = []


async def wait_for(name, value=0):
    ran.append(value)
    await gate[name].wait()
    return value


async def value_of(value):
    ran.append(value)
    return value


async def either(*values):
    return sum(values)


@pytest.fixture(autouse=True)
def _fresh():
    ran.clear()
    gate.clear()
    gate["go"] = asyncio.Event()


async def ids(backend):
    return [record.id for record in (await backend.scan(Filter())).records]


async def test_a_second_task_of_the_key_returns_the_id_of_the_first_until_that_has_ended(
    queue, working, ended
):
    unique = queue.options(unique="k")
    first = await unique.enqueue(value_of, 1)
    assert await unique.enqueue(value_of, 2) == first
    async with working():
        await ended(first)
    assert await unique.enqueue(value_of, 3) != first
    assert ran == [1]


async def test_raise_tells_the_id_of_the_holder(queue):
    unique = queue.options(unique=Unique("k", clash="raise"))
    first = await unique.enqueue(value_of, 1)
    with pytest.raises(DuplicateTaskError, match="holds the unique key 'k'") as raised:
        await unique.enqueue(value_of, 2)
    assert raised.value.existing_id == first


async def test_raise_in_a_group_refuses_all_of_it(queue, backend):
    first = await queue.options(unique="k").enqueue(value_of, 1)
    with pytest.raises(DuplicateTaskError):
        await queue.enqueue_many(
            [Task(value_of, (1,)), Task(value_of, (2,), unique=Unique("k", clash="raise"))]
        )
    assert await ids(backend) == [first]


@pytest.mark.parametrize("form", ["batch", "chain"])
@pytest.mark.parametrize("held_by", ["a stored task", "another one of the call"])
async def test_a_task_that_others_of_its_call_wait_for_is_not_left_out_in_silence(
    queue, backend, form, held_by
):
    stored = [] if held_by != "a stored task" else [await queue.options(unique="k").enqueue(value_of, 1)]
    tasks = [Task(either, (n,), unique="k") for n in range(1 if stored else 2)]
    with pytest.raises(
        DependencyError, match=r"holds the unique key 'k'.*nothing was stored\. Enqueue the one"
    ):
        await (queue.batch(tasks) if form == "batch" else queue.submit_many(chain(*tasks, Task(either))))
    assert await ids(backend) == stored


async def test_while_it_waits_only_a_running_one_lets_another_in(queue, working, eventually, ended):
    unique = queue.options(unique=Unique("k", scope="waiting"))
    first = await unique.enqueue(wait_for, "go", 1)
    assert await unique.enqueue(wait_for, "go", 2) == first
    async with working():
        await eventually(lambda: ran == [1])
        second = await unique.enqueue(wait_for, "go", 3)
        assert second != first
        await eventually(lambda: ran == [1, 3])
        gate["go"].set()
        await ended(second)


async def test_while_it_waits_or_runs_a_running_one_lets_none_in(queue, working, eventually):
    unique = queue.options(unique="k")
    first = await unique.enqueue(wait_for, "go", 1)
    async with working():
        await eventually(lambda: ran == [1])
        assert await unique.enqueue(wait_for, "go", 2) == first
        gate["go"].set()


async def test_replace_writes_the_newest_arguments_into_the_waiting_task(queue, working, ended):
    unique = queue.options(unique=Unique("k", clash="replace"))
    first = await unique.options(delay=60).enqueue(value_of, 1)
    assert await unique.options(delay=0).enqueue(value_of, 2) == first
    async with working():
        await ended(first)
    assert ran == [2]


async def test_replace_can_leave_the_start_or_the_arguments_as_they_are(queue, stored):
    due = queue.options(unique=Unique("k", clash="replace", fields=("due",)))
    first = await due.options(delay=60).enqueue(value_of, 1)
    before = await stored(first)
    await due.options(delay=600).enqueue(value_of, 2)
    after = await stored(first)
    assert after.payload == before.payload
    assert after.due > before.due + 500_000_000
    payload = queue.options(unique=Unique("k", clash="replace", fields=("payload",)))
    await payload.enqueue(value_of, 3)
    final = await stored(first)
    assert final.due == after.due
    assert final.payload != after.payload


async def test_a_task_of_another_function_is_not_replaced_and_the_error_says_what_can_be(queue):
    unique = queue.options(unique=Unique("k", clash="replace"))
    first = await unique.enqueue(value_of, 1)
    with pytest.raises(
        DuplicateTaskError, match=r"cannot be replaced.*same function in the same queue"
    ) as said:
        await unique.enqueue(abs, 1)
    assert said.value.existing_id == first


@pytest.mark.parametrize("unique", [Unique("k", clash="replace"), debounce(5, "k")])
async def test_what_may_replace_the_arguments_of_another_task_waits_for_no_other(queue, backend, unique):
    parent = await queue.options(delay=60).enqueue(value_of, 1)
    holder = await queue.options(unique="k", delay=60).enqueue(value_of, 2)
    options = {"unique": unique, "depends_on": [parent]}
    with pytest.raises(ValidationError, match=rf"'k' cannot depend on task {parent}.*leave out depends_on"):
        await queue.options(**options).enqueue(value_of, 3)
    with pytest.raises(ValidationError, match="cannot depend on task"):
        await queue.enqueue_many([Task(value_of, (3,)), Task(value_of, (4,), **options)])
    assert await ids(backend) == [parent, holder]
    due = Unique("k", clash="replace", fields=("due",))
    assert await queue.options(unique=due, depends_on=[parent]).enqueue(value_of, 5) == holder


async def test_a_task_that_waits_for_others_is_given_no_new_arguments(queue, working, ended):
    parent = await queue.options(delay=60).enqueue(value_of, 1)
    holder = await queue.options(unique="k", depends_on=[parent]).enqueue(value_of, 2)
    with pytest.raises(DuplicateTaskError, match=r"cannot be replaced.*one that waits for no other") as said:
        await queue.options(unique=Unique("k", clash="replace")).enqueue(value_of, 3)
    assert said.value.existing_id == holder
    await queue.change(parent, delay=0)
    async with working():
        await ended(holder)
    assert ran == [1, 2]


async def test_again_runs_once_more_after_the_current_run(queue, working, eventually, ended):
    unique = queue.options(unique=Unique("k", clash="again"))
    first = await unique.enqueue(wait_for, "go", 1)
    assert await unique.enqueue(wait_for, "go", 2) == first
    async with working():
        await eventually(lambda: ran == [1])
        more = {await unique.enqueue(wait_for, "go", value) for value in (3, 4, 5)}
        assert len(more) == 1
        assert first not in more
        assert ran == [1]
        gate["go"].set()
        await ended(*more)
    assert ran == [1, 3]


async def test_throttle_takes_one_task_in_a_time_even_if_that_has_ended(queue, working, ended):
    unique = queue.options(unique=throttle(60, "k"))
    first = await unique.enqueue(value_of, 1)
    async with working():
        await ended(first)
        assert await unique.enqueue(value_of, 2) == first
        again = queue.options(unique=throttle(0.001, "other"))
        one = await again.enqueue(value_of, 3)
        await ended(one)
        assert await again.enqueue(value_of, 4) != one
    assert 2 not in ran


async def test_debounce_runs_once_with_the_last_arguments(queue, working, ended, stored):
    unique = queue.options(unique=debounce(0.3, "k"))
    async with working():
        first = await unique.enqueue(value_of, 1)
        due = (await stored(first)).due
        assert {await unique.enqueue(value_of, each) for each in (2, 3)} == {first}
        assert (await stored(first)).due > due
        await ended(first)
        assert ran == [3]
        assert await unique.enqueue(value_of, 4) != first


async def test_a_function_can_be_unique_by_its_arguments(queue, backend):
    @queue.task(name="unique_report", unique=True)
    async def report(day, *, lang="en"):
        return day

    first = await report.enqueue("mon")
    assert await report.enqueue(day="mon", lang="en") == first
    assert await report.enqueue("tue") != first
    assert len(await ids(backend)) == 2


async def test_producers_at_the_same_instant_make_one_task(backend, queue):
    async with TaskQueue(backend) as other:
        made = await asyncio.gather(
            *(each.options(unique="k").enqueue(value_of, 1) for _ in range(50) for each in (queue, other))
        )
    assert len(set(made)) == 1
    assert len(await ids(backend)) == 1


async def test_processes_at_the_same_instant_make_one_task(tmp_path):
    script = textwrap.dedent(
        """
        import asyncio, sys
        from sitq import SQLiteBackend, TaskQueue
        async def main():
            async with TaskQueue(SQLiteBackend(sys.argv[1])) as queue:
                print("ready", flush=True)
                sys.stdin.readline()
                for each in range(40):
                    print(await queue.options(unique=f"k{each}").enqueue(abs, each))
        asyncio.run(main())
        """
    )
    file = tmp_path / "producer.py"
    file.write_text(script)
    command = [sys.executable, str(file), str(tmp_path / "tasks.db")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    producers = [subprocess.Popen(command, **pipes) for _ in range(3)]  # noqa: ASYNC220 - this loop has time
    for each in producers:
        assert each.stdout.readline() == "ready\n"
    for each in producers:
        each.stdin.write("\n")
        each.stdin.flush()
    answers = [each.communicate(timeout=50)[0].split() for each in producers]
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 40
    async with SQLiteBackend(tmp_path / "tasks.db") as store:
        assert await ids(store) == answers[0]


async def test_a_failed_task_lets_the_next_one_in(queue, working, ended):
    unique = queue.options(unique="k")
    first = await unique.enqueue(int, "no number")
    async with working():
        assert (await ended(first)).state is State.FAILED
    assert await unique.enqueue(int, "1") != first
