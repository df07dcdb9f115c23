"""What `sitq worker` says at its start of mistakes that would otherwise stay silent."""

import pytest

DECLARED = """
from sitq import TaskRouter

router = TaskRouter()
elsewhere = TaskQueue(SQLiteBackend(Path(__file__).parent / "others.db"), queue="others")


@emails.task
async def send():
    pass


@queue.task(queue="reports")
async def report():
    pass


@queue.task
async def plain():
    pass


@elsewhere.task
async def of_another_store():
    pass
"""


class TestKeys:
    @pytest.mark.parametrize(
        ("processes", "keys", "message"),
        [
            ("1", "", "SITQ_SECRET_KEYS is set but empty"),
            ("2", "one:abcd", "SITQ_SECRET_KEYS: key 1 has 2 bytes"),
        ],
    )
    def test_what_is_wrong_with_them_is_said_once_and_ends_it(self, place, keys, message, processes):
        place.file.write_text(
            place.file.read_text()
            + f"\nfrom contextlib import asynccontextmanager\n@asynccontextmanager\nasync def life(_):\n"
            f"    trace({str(place.traces)!r})\n    yield\nworker = Worker(backend, lifespan=life)\n"
        )
        ended = place.run("worker", f"{place.name}:worker", f"--processes={processes}", SITQ_SECRET_KEYS=keys)
        assert ended.returncode == 2
        assert ended.stderr.count(message) == 1
        assert "Traceback" not in ended.stderr
        assert "working" not in ended.stderr
        assert not place.trace()  # not even the lifespan began

    async def test_counting_tasks_needs_none(self, place):
        await place.queue.enqueue(place.app.add, 1, 2)
        shown = place.run("info", f"{place.name}:queue", SITQ_SECRET_KEYS="")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "default" in shown.stdout


class TestQueues:
    def test_functions_for_queues_that_are_not_served_are_told(self, place):
        place.file.write_text(place.file.read_text() + DECLARED)
        ended = place.run("worker", f"{place.name}:queue", "--burst")
        assert ended.returncode == 0
        (line,) = [line for line in ended.stderr.splitlines() if "functions of" in line]
        assert "WARNING" in line
        assert "go to 'emails', 'reports', which this worker does not serve; add --queues" in line

    def test_who_chose_the_queues_is_not_warned(self, place):
        place.file.write_text(place.file.read_text() + DECLARED)
        ended = place.run("worker", f"{place.name}:queue", "--burst", "--queues=emails,default")
        (line,) = [line for line in ended.stderr.splitlines() if "functions of" in line]
        assert " INFO " in line
        assert line.endswith("go to 'reports', which this worker does not serve")


class TestFile:
    def test_a_new_file_is_told_with_its_absolute_path(self, place):
        first = place.run("worker", "sqlite:///shop.db", "--burst")
        assert f"the store is the file {place.folder / 'shop.db'}" in first.stderr
        assert "WARNING" in first.stderr
        assert "there is no file shop.db: it is made now" in first.stderr
        again = place.run("worker", "sqlite:///shop.db", "--burst")
        assert f"the store is the file {place.folder / 'shop.db'}" in again.stderr
        assert "WARNING" not in again.stderr
