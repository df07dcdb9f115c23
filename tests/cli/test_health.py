"""`--health`: what a probe is told."""

import asyncio
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.timeout(150)  # a machine under load takes its time to start processes


def _ask(url, method="GET"):
    """Status and body of an answer."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


async def _told(place):
    """The address of the probe."""
    return await place.until(lambda: re.findall(r"health is told on (http://\S+)", place.log)[-1:])


async def _become(place, url, status, seconds=40.0):
    """Wait until the probe says so; its body then."""
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + seconds
    while True:
        answer, body = await loop.run_in_executor(None, _ask, url)
        if body["status"] == status:
            return answer, body
        assert time.monotonic() < deadline, (answer, body, place.log)
        await asyncio.sleep(0.05)


async def test_a_single_worker_tells_how_it_is(place):
    process = place.start("worker", f"{place.name}:queue", "--health=0")
    (url,) = await _told(place)
    assert url.startswith("http://127.0.0.1:")  # nobody else's business, unless a host is named
    status, body = await _become(place, url, "ok")
    assert status == 200
    assert body["started"] is body["connected"] is True
    assert 0 <= body["last_claim"] < 10
    process.terminate()
    assert await place.exit_of(process) == 0


async def test_it_answers_while_a_task_blocks_the_event_loop(place):
    process = place.start("worker", f"{place.name}:queue", "--health=0", "--lease=2")
    (url,) = await _told(place)
    await _become(place, url, "ok")
    await place.queue.enqueue(place.app.block, str(place.traces), 3)
    await place.until(place.trace)
    status, body = await asyncio.to_thread(_ask, url)
    assert (status, body["status"]) == (200, "ok")
    process.kill()


async def test_a_supervisor_tells_of_each_of_its_processes(place):
    process = place.start("worker", f"{place.name}:queue", "--processes=2", SITQ_HEALTH="127.0.0.1:0")
    (url,) = await _told(place)
    status, body = await _become(place, url, "ok")
    while len(body["processes"]) < 2:
        status, body = await _become(place, url, "ok")
    assert status == 200
    assert all(each["connected"] and each["worker"] for each in body["processes"])
    assert place.log.count("health is told") == 1  # its processes do not listen themselves

    stopped = body["processes"][0]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        status, body = await _become(place, url, "degraded")
        assert status == 200  # the other one works
        assert [each["connected"] for each in body["processes"] if each["pid"] == stopped] == [False]
    finally:
        os.kill(stopped, signal.SIGCONT)
    await _become(place, url, "ok")
    process.terminate()
    assert await place.exit_of(process) == 0


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_places_that_are_all_held_past_their_time_are_no_health(place, processes):
    late = place.queue.options(timeout=0.1)
    for _ in range(int(processes)):
        await late.enqueue(place.app.hold_thread, str(place.traces), 120)
    options = ["--concurrency=1", "--health=0", f"--processes={processes}"]
    process = place.start("worker", f"{place.name}:queue", *options)
    (url,) = await _told(place)
    status, body = await _become(place, url, "stuck")
    assert (status, body["stuck"]) == (503, True)
    assert place.log.count("1 of 1 places are held by tasks that ran past their time") == int(processes)
    process.terminate()
    assert await place.exit_of(process, 30) == 0


async def test_before_a_process_works_it_is_not_well(place):
    place.file.write_text("import time; time.sleep(60)")
    process = place.start("worker", f"{place.name}:queue", "--processes=2", "--health=0")
    (url,) = await _told(place)
    status, body = await asyncio.to_thread(_ask, url)
    assert (status, body["status"], body["started"]) == (503, "starting", False)
    process.terminate()
    assert await place.exit_of(process) == 0


async def test_what_is_no_probe_is_refused_and_a_silent_client_holds_nobody_up(place):
    process = place.start("worker", f"{place.name}:queue", "--processes=2", "--health=0")
    (url,) = await _told(place)
    await _become(place, url, "ok")
    host, port = url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    try:
        assert (await asyncio.to_thread(_ask, url, "POST"))[0] == 405
        assert (await asyncio.to_thread(_ask, url, "HEAD")) == (200, None)
        with socket.create_connection((host, int(port)), timeout=5) as client:
            client.sendall(b"hello\r\n\r\n")
            assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.1 400 ")
        assert (await asyncio.to_thread(_ask, url))[0] == 200
    finally:
        for client in silent:
            client.close()
    process.terminate()
    assert await place.exit_of(process) == 0


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("eighty", "no address for the health probe"),
        ("host:", "no address"),
        (":99999", "no address"),
        ("::1:80", "no address"),
        ("TAKEN", "cannot listen on 127.0.0.1"),
    ],
)
def test_an_address_that_cannot_be_had_is_said(place, given, message, processes):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = str(taken.getsockname()[1]) if given == "TAKEN" else given
        ended = place.run("worker", f"{place.name}:queue", f"--health={given}", f"--processes={processes}")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
