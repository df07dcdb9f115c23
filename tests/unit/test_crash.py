import pytest

from sitq.policy.crash import judge, verdict
from sitq.record import Record


@pytest.mark.parametrize(
    ("crashes", "alone", "judged"),
    [
        (0, 0, "clear"),
        (1, 0, "clear"),
        (2, 0, "suspect"),
        (50, 0, "suspect"),
        (3, 1, "suspect"),
        (4, 2, "condemned"),
        (9, 7, "condemned"),
        (0, 5, "clear"),
        (1, 2, "clear"),
    ],
)
def test_deaths_among_others_make_a_suspect_and_only_deaths_alone_condemn(crashes, alone, judged):
    assert judge(Record(id="a", crashes=crashes, alone=alone)) == judged


def test_a_healthy_task_comes_through_any_number_of_deaths_among_others():
    assert {judge(Record(id="a", crashes=n)) for n in range(100)} == {"clear", "suspect"}


def test_the_verdict_says_how_often_and_what_to_do():
    failure = verdict(Record(id="a", crashes=4, alone=2, attempt=5), 99)
    assert (failure.kind, failure.attempt, failure.at) == ("crashed", 5, 99)
    assert "quarantined" in failure.message
    assert "4 times" in failure.message
    assert "2 runs alone" in failure.message
    assert "enqueue it again" in failure.message
