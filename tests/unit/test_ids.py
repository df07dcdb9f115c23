import os
import re
import threading
import time
import uuid
from itertools import pairwise

import pytest

from sitq import ids
from sitq.ids import Sequence, new_id, token


def steady(nanoseconds):
    return lambda: nanoseconds


def test_an_id_is_a_uuid_of_version_7():
    text = new_id()
    assert len(text) == 36
    assert str(uuid.UUID(text)) == text
    assert uuid.UUID(text).version == 7
    assert uuid.UUID(text).variant == uuid.RFC_4122


def test_an_id_begins_with_the_millisecond_it_was_made_in():
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id()).int >> 80
    assert before <= made <= time.time_ns() // 1_000_000 + 1_000  # may run ahead, after many ids


def test_the_time_is_the_one_of_the_rfc():
    # RFC 9562, appendix A.6: 2022-02-22 19:22:22 GMT is 017f22e2-79b0-7…
    assert Sequence(steady(0x017F22E279B0 * 1_000_000)).next().startswith("017f22e2-79b0-7")


def test_ids_rise_strictly():
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_rise_strictly_within_one_millisecond():
    sequence = Sequence(steady(1_700_000_000_000_000_000))
    made = [sequence.next() for _ in range(5_000)]
    assert all(earlier < later for earlier, later in pairwise(made))
    assert {each[:13] for each in made} == {made[0][:13]}


def test_ids_rise_strictly_when_the_clock_steps_back():
    times = iter([5_000_000_000, 4_000_000_000, 0, 5_001_000_000])
    sequence = Sequence(lambda: next(times))
    made = [sequence.next() for _ in range(4)]
    assert made == sorted(made)
    assert len(set(made)) == 4


def test_an_exhausted_counter_borrows_the_next_millisecond():
    sequence = Sequence(steady(1_000_000), entropy=lambda size: b"\xff" * size)
    made = [sequence.next()]
    sequence._counter = (1 << 48) - 2
    made += [sequence.next() for _ in range(3)]
    assert made == sorted(made)
    assert [uuid.UUID(each).int >> 80 for each in made] == [1, 2, 2, 2]
    assert all(len(each) == 36 and uuid.UUID(each).version == 7 for each in made)


@pytest.mark.parametrize("filler", [b"\x00", b"\xff"])
def test_ids_are_well_formed_for_any_randomness(filler):
    sequence = Sequence(steady((1 << 48) * 1_000_000 - 1), entropy=lambda size: filler * size)
    made = [uuid.UUID(sequence.next()) for _ in range(10)]
    assert all(each.version == 7 and each.variant == uuid.RFC_4122 for each in made)
    assert made == sorted(made)


def test_ids_of_threads_never_collide_and_rise_in_each():
    made = [[] for _ in range(8)]

    def work(mine):
        mine.extend(new_id() for _ in range(2_000))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len(set().union(*made)) == 16_000


def test_two_sources_at_the_same_instant_do_not_collide():
    one, other = Sequence(steady(10**18)), Sequence(steady(10**18))
    assert not {one.next() for _ in range(1_000)} & {other.next() for _ in range(1_000)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_other_ids_even_when_the_lock_was_held():
    new_id()
    reading, writing = os.pipe()
    with ids._sequence._lock:
        child = os.fork()
        if not child:
            os.write(writing, "".join(new_id() for _ in range(50)).encode())
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    text = os.read(reading, 50 * 36).decode()
    os.close(reading)
    os.close(writing)
    theirs = {text[at : at + 36] for at in range(0, len(text), 36)}
    assert len(theirs) == 50
    assert not theirs & {new_id() for _ in range(500)}


def test_a_token_is_128_random_bits_in_hexadecimal():
    made = {token() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
