"""The commands `sitq worker` and `sitq info`, as a user types them."""

import json
import os
import signal

import pytest

import sitq
from sitq.cli import main


async def _working(place, *arguments, **environment):
    """A worker that has begun to work."""
    process = place.start("worker", *arguments, **environment)
    await place.until(lambda: "working" in place.log)
    return process


class TestCommand:
    def test_it_knows_its_version(self, place):
        assert place.run("--version").stdout == f"sitq, version {sitq.__version__}\n"

    def test_the_help_says_what_the_exit_codes_mean(self, place):
        shown = place.run("worker", "--help").stdout
        assert "Exit codes:" in shown
        for code in range(4):
            assert f"  {code}  " in shown


class TestMistakes:
    """Each is a line or two on stderr, and exit code 2."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "which queue?"),
            (["no_such_module:queue"], "there is no module 'no_such_module'"),
            (["APP.sub:queue"], "there is no module 'APP.sub'"),
            (["APP:quue"], "has no attribute 'quue'; did you mean APP:queue?"),
            (["APP:queue.missing"], "has no attribute 'queue.missing'"),
            (
                ["APP:number"],
                "APP:number is of type int; it has to be a TaskQueue or SyncTaskQueue, a Worker, a backend",
            ),
            (["APP:TaskQueue"], "APP:TaskQueue is the class TaskQueue"),
            (["APP:add"], "APP:add needs arguments"),
            (["APP:make_queue_later"], "is an async function"),
            (["APP"], "write APP:queue"),
            (["APP.py"], "names a file; name the module: APP:queue"),
            (["tasks.db"], "names a file; a database is given by its URL: sqlite:///tasks.db"),
            (["/var/lib/tasks.sqlite3"], "by its URL: sqlite:////var/lib/tasks.sqlite3"),
            (["APP:a b"], "not of the form module:queue"),
            (["APP:queue", "--queues=a,,b"], "empty name"),
            (["APP:queue", "--queues=a=1,b"], "weights to some queues only"),
            (["APP:queue", "--queues=a=x"], "must be a number"),
            (["APP:queue", "--queues=a=0"], "above 0"),
            (["APP:queue", "--queues=a=0", "--processes=2"], "above 0"),
            (["APP:queue", "--concurrency=0"], "--concurrency"),
            (["APP:queue", "--concurrency=many"], "--concurrency"),
            (["APP:queue", "--lease=0.01"], "--lease"),
            (["APP:queue", "--grace=-1"], "--grace"),
            (["APP:queue", "--poll-interval=0"], "--poll-interval"),
            (["APP:queue", "--processes=0"], "--processes"),
            (["APP:queue", "--log-level=loud"], "--log-level"),
            (["APP:queue", "--proceses=2"], "--processes"),
            (["sqlite:///missing/tasks.db"], "its folder missing does not exist"),
            (["postgrex://host/db"], "no store is known for postgrex://"),
            (["memory://mine"], "lives in one process"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_it_is_told_in_a_line_or_two(self, place, monkeypatch, capsys, arguments, message):
        monkeypatch.chdir(place.folder)
        for name in set(os.environ) - set(place.environment()):
            monkeypatch.delenv(name)
        with pytest.raises(SystemExit) as ended:
            main(["worker", *(each.replace("APP", place.name) for each in arguments)])
        out, err = capsys.readouterr()
        assert ended.value.code == 2
        assert out == ""
        assert message.replace("APP", place.name) in err
        assert err.startswith("sitq: ")
        assert len(err.splitlines()) <= 2

    def test_an_error_in_the_users_module_is_shown_with_their_part_of_the_traceback_only(self, place):
        place.file.write_text("def settings():\n    return {}['database']\n\nsettings()\n")
        ended = place.run("worker", f"{place.name}:queue")
        assert ended.returncode == 2
        assert "return {}['database']" in ended.stderr
        assert "sitq/cli" not in ended.stderr
        assert "importlib" not in ended.stderr
        assert ended.stderr.splitlines()[-1].endswith("see above: KeyError: 'database'")

    def test_an_import_that_fails_inside_the_module_is_not_taken_for_a_missing_module(self, place):
        place.file.write_text("import missing_part")
        ended = place.run("worker", f"{place.name}:queue")
        assert ended.returncode == 2
        assert f"module {place.name!r} cannot be imported, see above" in ended.stderr

    def test_a_function_that_fails_is_shown_with_its_traceback(self, place):
        ended = place.run("worker", f"{place.name}:broken_factory")
        assert ended.returncode == 2
        assert 'raise RuntimeError("no settings here")' in ended.stderr
        assert "sitq/cli" not in ended.stderr

    def test_a_script_that_ends_the_program_is_told_about_its_main_guard(self, place):
        place.file.write_text("import sys; sys.exit(0)")
        ended = place.run("worker", f"{place.name}:queue")
        assert ended.returncode == 2
        assert "__main__" in ended.stderr

    def test_a_file_that_is_no_database_is_told(self, place):
        place.database.write_text("This is no database, but long enough to be looked at as one. " * 20)
        ended = place.run("worker", f"{place.name}:queue")
        assert ended.returncode == 2
        assert "tasks.db" in ended.stderr
        assert "Traceback" not in ended.stderr


class TestApp:
    @pytest.mark.parametrize("name", ["queue", "worker", "backend", "make_queue", "URL"])
    async def test_it_may_be_a_queue_a_worker_a_backend_a_function_or_a_url(self, place, name):
        task_id = await place.queue.enqueue(place.app.add, 1, 2)
        app = f"sqlite:///{place.database}" if name == "URL" else f"{place.name}:{name}"
        ended = place.run("worker", app, "--burst")
        assert ended.returncode == 0, ended.stderr
        assert await place.value_of(task_id, 1) == 3

    async def test_a_queue_with_a_name_is_served_under_that_name(self, place):
        default = await place.queue.enqueue(place.app.add, 1, 2)
        email = await place.app.emails.enqueue(place.app.add, 3, 4)
        assert place.run("worker", f"{place.name}:emails", "--burst").returncode == 0
        assert await place.value_of(email, 1) == 7
        assert (await place.queue.get_results([default]))[0].status == "pending"

    async def test_a_worker_keeps_what_the_options_do_not_change(self, place):
        process = await _working(place, f"{place.name}:worker", "--queues=default,emails")
        assert "for default, emails" in place.log
        process.terminate()
        assert await place.exit_of(process) == 0
        assert "running tasks have 7 s to end" in place.log

    @pytest.mark.parametrize("queues", ["emails,default", "emails=3,default=1"])
    async def test_queues_are_served_in_order_or_by_weight(self, place, queues):
        tasks = [await queue.enqueue(place.app.add, 1, 1) for queue in (place.queue, place.app.emails)]
        assert place.run("worker", f"{place.name}:queue", f"--queues={queues}", "--burst").returncode == 0
        assert [await place.value_of(task_id, 1) for task_id in tasks] == [2, 2]

    async def test_the_environment_says_what_the_command_does_not(self, place):
        task_id = await place.app.emails.enqueue(place.app.add, 1, 2)
        settings = {
            "SITQ_APP": f"{place.name}:queue",
            "SITQ_QUEUES": "emails",
            "SITQ_CONCURRENCY": "2",
            "SITQ_PROCESSES": "2",
            "SITQ_LOG_LEVEL": "warning",
        }
        ended = place.run("worker", "--burst", **settings)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert await place.value_of(task_id, 1) == 3

    async def test_the_url_of_a_store_may_come_from_the_environment(self, place):
        task_id = await place.queue.enqueue(place.app.add, 1, 2)
        assert place.run("worker", "--burst", SITQ_URL=f"sqlite:///{place.database}").returncode == 0
        assert await place.value_of(task_id, 1) == 3


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_the_first_signal_lets_running_tasks_end(self, place, number):
        task_id = await place.queue.enqueue(place.app.hold, str(place.traces), 0.5)
        process = await _working(place, f"{place.name}:queue")
        await place.until(place.trace)
        process.send_signal(number)
        assert await place.exit_of(process) == 0
        assert await place.value_of(task_id, 1) == process.pid

    async def test_the_second_signal_hands_back_at_once_and_the_exit_code_says_so(self, place):
        task_id = await place.queue.enqueue(place.app.hold, str(place.traces))
        process = await _working(place, f"{place.name}:queue", "--grace=60")
        await place.until(place.trace)
        process.terminate()
        await place.until(lambda: "stopping, as a signal came" in place.log)
        process.terminate()
        assert await place.exit_of(process, 8) == 3
        (record,) = await place.queue.backend.get([task_id])
        assert (record.state, record.failures, record.crashes) == ("queued", 0, 0)

    async def test_a_blocked_event_loop_does_not_keep_signals_from_being_heard(self, place):
        task_id = await place.queue.enqueue(place.app.block, str(place.traces), 60)
        process = await _working(place, f"{place.name}:queue")
        await place.until(place.trace)
        await place.until(lambda: f"running: task {task_id} of" in place.log)
        process.send_signal(signal.SIGINT)
        await place.until(lambda: "a signal came, but the event loop is blocked" in place.log)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert await place.exit_of(process) == 3
        assert "stopping at once, as a second signal came and the event loop is blocked" in place.log

    async def test_the_third_signal_ends_even_a_worker_whose_event_loop_is_blocked(self, place):
        await place.queue.enqueue(place.app.block, str(place.traces), 60)
        process = await _working(place, f"{place.name}:queue")
        await place.until(place.trace)
        # Signals of one kind that are pending together count once, so it is told until it has heard three.
        await place.until(lambda: process.poll() is not None or process.terminate(), 8)
        assert process.returncode == 3

    async def test_a_thread_that_does_not_end_does_not_hold_it_up(self, place):
        task_id = await place.queue.enqueue(place.app.hold_thread, str(place.traces), 60)
        process = await _working(place, f"{place.name}:queue", "--grace=0.2")
        await place.until(place.trace)
        process.terminate()
        assert await place.exit_of(process, 10) == 0
        (record,) = await place.queue.backend.get([task_id])
        assert record.state == "queued"


class TestInfo:
    async def test_it_counts_tasks_per_queue_and_state(self, place):
        await place.queue.enqueue(place.app.add, 1, 2)
        await place.app.emails.enqueue(place.app.add, 1, 2)
        place.run("worker", f"{place.name}:emails", "--burst")
        assert place.run("info", f"{place.name}:queue").stdout.splitlines() == [
            "queue    queued  completed",
            "default       1          0",
            "emails        0          1",
        ]

    async def test_it_prints_json(self, place):
        await place.queue.enqueue(place.app.add, 1, 2)
        shown = place.run("info", "--json", SITQ_URL=f"sqlite:///{place.database}").stdout
        assert json.loads(shown) == {"default": {"queued": 1}}

    async def test_it_says_when_there_is_nothing(self, place):
        await place.queue.connect()
        assert place.run("info", f"{place.name}:queue").stdout == "no tasks\n"

    def test_it_makes_no_file_for_a_name_that_is_wrong(self, place):
        shown = place.run("info", "sqlite:///wrong.db")
        assert (shown.returncode, shown.stdout) == (2, "")
        assert "there is no file wrong.db" in shown.stderr
        assert not list(place.folder.glob("wrong*"))
