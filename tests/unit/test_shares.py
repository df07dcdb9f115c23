import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sitq.backends.base import Share
from sitq.worker.shares import shares

weights = st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0.01, 100), min_size=1, max_size=6)


def test_weights_of_nothing_are_strict_order():
    assert shares({"b": 0.0, "a": 0.0}, 7) == (Share("b", 7), Share("a", 7))


@given(weights, st.integers(1, 100))
def test_every_queue_has_its_place_and_no_share_is_above_its_part_rounded_up(given_weights, limit):
    made = shares(given_weights, limit)
    assert {share.queue for share in made} == set(given_weights)
    total = sum(given_weights.values())
    for share in made:
        exact = limit * given_weights[share.queue] / total
        assert int(exact) <= share.most <= int(exact) + 1


def test_shares_are_in_proportion_on_the_average():
    dice = random.Random(7).random
    filled = Counter()
    for _ in range(4000):
        for share in shares({"big": 3.0, "small": 1.0}, 2, dice):
            filled[share.queue] += share.most
    assert 2.7 < filled["big"] / filled["small"] < 3.3


def test_a_worker_of_one_slot_serves_every_queue_by_its_weight():
    dice = random.Random(7).random
    first = Counter(shares({"big": 3.0, "small": 1.0}, 1, dice)[0].queue for _ in range(4000))
    assert 2.7 < first["big"] / first["small"] < 3.3


def test_a_tiny_weight_next_to_a_huge_one_is_served_at_last():
    dice = random.Random(7).random
    assert any(shares({"huge": 1000.0, "tiny": 1.0}, 1, dice)[0].queue == "tiny" for _ in range(20_000))
