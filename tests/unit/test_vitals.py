"""What a health probe is told."""

import pytest

from sitq.exceptions import ValidationError
from sitq.worker.health import address
from sitq.worker.vitals import ProcessVitals, Vitals, report, together, vitals


def _vitals(claimed=None, renewed=None, poll=1.0, now=100.0):
    return vitals(started=True, claimed=claimed, renewed=renewed, poll=poll, now=now)


@pytest.mark.parametrize(
    ("answers", "connected"),
    [
        ({}, False),  # it has begun, and the store has not answered yet
        ({"claimed": 99.0}, True),
        ({"claimed": 80.0}, False),  # an idle worker looks every second
        ({"claimed": 80.0, "poll": 30.0}, True),  # and this one seldom does
        ({"claimed": 1.0, "renewed": 98.0}, True),  # all of its slots are taken
        ({"claimed": 1.0, "renewed": 50.0}, False),
    ],
)
def test_a_worker_is_well_if_its_store_answered_lately(answers, connected):
    assert _vitals(**answers).connected is connected


def test_it_tells_how_long_ago_the_last_claim_was():
    assert _vitals(claimed=97.5).last_claim == 2.5
    assert _vitals(renewed=97.5).last_claim is None


def _process(pid, *, connected=True, started=True, last_claim=1.0):
    return ProcessVitals(
        pid=pid, worker=f"w{pid}", started=started, connected=connected, last_claim=last_claim
    )


@pytest.mark.parametrize(
    ("processes", "well", "status"),
    [
        ([], False, "starting"),
        ([_process(1, started=False, connected=False)], False, "starting"),
        ([_process(1)], True, "ok"),
        ([_process(1), _process(2, connected=False)], True, "degraded"),
        ([_process(1, connected=False), _process(2, connected=False)], False, "unhealthy"),
    ],
)
def test_a_supervisor_is_well_if_one_of_its_processes_is(processes, well, status):
    answer, body = report(together(processes), processes=processes)
    assert (answer, body["status"], len(body["processes"])) == (well, status, len(processes))


def test_the_claim_of_several_is_the_last_one():
    assert together([_process(1, last_claim=5.0), _process(2, last_claim=0.5)]).last_claim == 0.5


def test_a_worker_that_stops_is_well_while_its_store_answers():
    well = Vitals(started=True, connected=True, last_claim=0.12345)
    assert report(well, stopping=True) == (
        True,
        {"status": "stopping", "started": True, "connected": True, "last_claim": 0.123, "stuck": False},
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_a_port_and_perhaps_a_host(text, expected):
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", "::1:80", "1:2:3", ":70000", "http://x:1", ":-1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValidationError, match="health probe"):
        address(text)
