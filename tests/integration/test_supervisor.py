"""Real processes, real signals: what the supervisor promises."""

import os
import re
import signal
import statistics
import time

import pytest

_START = 50.0
"""Seconds that processes may take to start on a machine that does much else; nothing is promised of that."""


def _workers(place):
    """The process ids of the workers that have begun to work, in that order."""
    return [int(pid) for pid in re.findall(r"\[(\d+)\] sitq\.worker: working", place.log)]


def _is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def _started(place, *options, count=2):
    """A supervisor whose processes all work."""
    supervisor = place.start("worker", f"{place.name}:queue", f"--processes={count}", *options)
    await place.until(lambda: len(_workers(place)) >= count, _START)
    return supervisor


async def _stopped(place, supervisor):
    supervisor.terminate()
    return await place.exit_of(supervisor)


async def _record(place, task_id):
    (record,) = await place.queue.backend.get([task_id])
    return record


class TestDeath:
    @pytest.mark.timeout(240)
    async def test_a_killed_workers_task_runs_again_within_a_second(self, place):
        supervisor = await _started(place, "--lease=60")
        took: list[float] = []
        for n in range(5):
            await place.until(lambda n=n: len(_workers(place)) == 2 + n, _START)  # the dead one was replaced
            task_id = await place.queue.enqueue(place.app.hold, str(place.traces))
            pid, _ = (await place.until(lambda n=n: len(place.trace()) == 2 * n + 1 and place.trace()))[-1]

            killed = time.time()
            os.kill(pid, signal.SIGKILL)
            again = (await place.until(lambda n=n: len(place.trace()) == 2 * n + 2 and place.trace()))[-1]

            took.append(again[1] - killed)
            assert await place.value_of(task_id) == again[0] != pid
            assert f"worker process {pid}" in place.log
            assert "was killed by SIGKILL" in place.log
        assert statistics.median(took) <= 1.0, took  # of five, since the machine may have other things to do
        assert await _stopped(place, supervisor) == 0

    async def test_when_all_workers_are_killed_their_successors_free_the_leases(self, place):
        supervisor = await _started(place, "--lease=30")
        tasks = [await place.queue.enqueue(place.app.hold, str(place.traces)) for _ in range(3)]
        await place.until(lambda: len(place.trace()) == 3)

        for pid in _workers(place):
            os.kill(pid, signal.SIGKILL)

        for task_id in tasks:
            assert await place.value_of(task_id, seconds=10) not in _workers(place)[:2]
        assert await _stopped(place, supervisor) == 0

    async def test_a_task_that_kills_its_workers_is_quarantined_and_the_others_go_on(self, place):
        supervisor = await _started(place)
        poison = await place.queue.enqueue(place.app.die, str(place.traces))
        others = [await place.queue.enqueue(place.app.add, n, n) for n in range(20)]

        assert [await place.value_of(task_id) for task_id in others] == [2 * n for n in range(20)]
        result = await place.queue.get_result(poison, timeout=25)
        assert result is not None, place.log
        assert result.status == "dead"
        assert "quarantined" in result.error
        assert "ended with exit code 9" in place.log
        assert await place.value_of(await place.queue.enqueue(place.app.add, 1, 2)) == 3
        assert await _stopped(place, supervisor) == 0

    async def test_a_worker_that_was_told_to_end_is_replaced(self, place):
        supervisor = await _started(place)
        os.kill(_workers(place)[0], signal.SIGTERM)
        await place.until(lambda: len(_workers(place)) == 3)
        assert await _stopped(place, supervisor) == 0


class TestStop:
    async def test_the_first_signal_lets_running_tasks_end_and_claims_no_more(self, place):
        supervisor = await _started(place, "--concurrency=1")
        running = [await place.queue.enqueue(place.app.hold, str(place.traces), 1.0) for _ in range(2)]
        await place.until(lambda: len(place.trace()) == 2)
        waiting = await place.queue.enqueue(place.app.add, 1, 2)

        assert await _stopped(place, supervisor) == 0

        assert {await place.value_of(task_id, 1) for task_id in running} == {pid for pid, _ in place.trace()}
        assert (await _record(place, waiting)).attempt == 0

    async def test_what_does_not_end_within_the_grace_goes_back_without_a_retry(self, place):
        supervisor = await _started(place, "--grace=0.2")
        task_id = await place.queue.enqueue(place.app.hold, str(place.traces))
        await place.until(place.trace)

        assert await _stopped(place, supervisor) == 0

        record = await _record(place, task_id)
        assert (record.state, record.attempt, record.failures) == ("queued", 1, 0)
        assert place.trace("cancelled")

    async def test_the_second_signal_hands_back_at_once_and_the_exit_code_says_so(self, place):
        supervisor = await _started(place, "--grace=60")
        task_id = await place.queue.enqueue(place.app.hold, str(place.traces))
        await place.until(place.trace)

        supervisor.send_signal(signal.SIGINT)
        await place.until(lambda: "a second signal hands them back" in place.log)
        supervisor.send_signal(signal.SIGINT)

        assert await place.exit_of(supervisor, 5) == 3
        assert (await _record(place, task_id)).state == "queued"

    async def test_the_third_signal_ends_even_a_process_that_does_not_listen(self, place):
        supervisor = await _started(place, "--grace=60")
        await place.queue.enqueue(place.app.block, str(place.traces), 60)
        ((pid, _),) = await place.until(place.trace)

        for sign in ("a second signal hands them back", "stopping at once", "and is killed"):
            supervisor.terminate()
            await place.until(lambda sign=sign: sign in place.log)

        assert await place.exit_of(supervisor, 4) == 3
        assert _is_gone(pid)

    async def test_processes_whose_supervisor_died_stop_by_themselves(self, place):
        supervisor = await _started(place)
        task_id = await place.queue.enqueue(place.app.hold, str(place.traces), 0.5)
        await place.until(place.trace)

        supervisor.kill()
        supervisor.wait()

        await place.until(lambda: all(_is_gone(pid) for pid in _workers(place)))
        assert await place.value_of(task_id, 1) in _workers(place)  # it was let to its end

    async def test_a_terminals_ctrl_c_reaches_the_supervisor_alone(self, place):
        supervisor = await _started(place)
        assert all(os.getpgid(pid) == pid for pid in _workers(place))
        assert os.getpgid(supervisor.pid) != supervisor.pid
        assert await _stopped(place, supervisor) == 0


class TestStart:
    def test_an_application_that_cannot_be_imported_is_reported_once_and_ends_it(self, place):
        place.file.write_text("import missing_part")
        ended = place.run("worker", f"{place.name}:queue", "--processes=2")
        assert ended.returncode == 2
        assert ended.stderr.count("No module named 'missing_part'") == 2  # its traceback, and the complaint
        assert "the worker processes cannot start" in ended.stderr

    def test_a_store_that_cannot_be_opened_ends_it(self, place):
        ended = place.run("worker", "sqlite:///missing/tasks.db", "--processes=2")
        assert ended.returncode == 2
        assert "its folder missing does not exist" in ended.stderr

    def test_it_gives_up_when_processes_keep_dying_before_they_are_ready(self, place):
        place.file.write_text("import os; os._exit(5)")
        ended = place.run("worker", f"{place.name}:queue", "--processes=2")
        assert ended.returncode == 1
        assert "5 worker processes in a row died before they were ready" in ended.stderr

    async def test_a_signal_while_processes_start_ends_it(self, place):
        place.file.write_text(f"open({str(place.traces)!r}, 'w'); import time; time.sleep(60)")
        supervisor = place.start("worker", f"{place.name}:queue", "--processes=2")
        await place.until(place.traces.exists)
        supervisor.terminate()
        assert await place.exit_of(supervisor, 5) == 0


class TestBurst:
    async def test_a_burst_ends_when_everything_is_done(self, place):
        tasks = [await place.queue.enqueue(place.app.add, n, 1) for n in range(30)]
        supervisor = place.start("worker", f"{place.name}:queue", "--processes=2", "--burst")
        assert await place.exit_of(supervisor) == 0
        assert [await place.value_of(task_id, 1) for task_id in tasks] == [n + 1 for n in range(30)]

    async def test_a_burst_outlives_the_death_of_a_worker(self, place):
        task_id = await place.queue.enqueue(place.app.hold, str(place.traces))
        supervisor = place.start("worker", f"{place.name}:queue", "--processes=2", "--burst")
        ((pid, _),) = await place.until(place.trace)
        os.kill(pid, signal.SIGKILL)
        assert await place.exit_of(supervisor) == 0
        assert await place.value_of(task_id, 1) != pid
