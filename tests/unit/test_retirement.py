"""When a worker has done its part."""

import pytest

from sitq.exceptions import ValidationError
from sitq.worker.retirement import Retirement, resident, size


class Machine:
    """A clock and a memory that are moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.bytes = 100
        self.looks = 0

    def clock(self) -> float:
        return self.now

    def occupied(self) -> int:
        self.looks += 1
        return self.bytes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, 1),
        ("1", 1),
        ("200MB", 200_000_000),
        ("200MiB", 200 << 20),
        ("200 mib", 200 << 20),
        ("1.5GiB", 3 << 29),
        ("2k", 2000),
        ("1TiB", 1 << 40),
        ("64 B", 64),
    ],
)
def test_a_size_is_bytes_or_text_with_a_unit(given, expected):
    assert size(given, "max_memory") == expected


@pytest.mark.parametrize(
    "given", ["", "much", "-1", "1 XB", "MiB", 0, "0", -5, 1.5, None, True, "1e9", "inf"]
)
def test_what_is_no_size_is_refused_by_name(given):
    with pytest.raises(ValidationError, match="max_memory"):
        size(given, "max_memory")


def test_it_never_claims_more_than_its_part():
    one = Retirement(10, None)
    assert one.left(4) == 4
    one.claimed(4)
    one.claimed(4)
    assert one.left(4) == 2
    assert not one.why
    one.claimed(2)
    assert one.left(4) == 0
    assert one.why == "it has claimed 10 tasks"


def test_it_ends_when_it_has_grown_but_not_before_it_has_claimed_something():
    machine = Machine()
    one = Retirement(None, 50 << 20, machine.occupied, machine.clock)
    machine.bytes = 60 << 20
    assert one.left(4) == 4  # or a limit below what an empty worker needs would never run a task
    one.claimed(1)
    assert one.left(4) == 0
    assert one.why == "it occupies 60 MiB of memory"


def test_it_looks_at_the_memory_now_and_then():
    machine = Machine()
    one = Retirement(None, 1000, machine.occupied, machine.clock)
    one.claimed(1)
    for _ in range(100):
        assert one.left(4) == 4
        machine.now += 0.01
    assert machine.looks == 2


def test_this_process_occupies_memory():
    assert 1 << 20 < resident() < 1 << 40
