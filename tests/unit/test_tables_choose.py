import random

import pytest

from sitq.backends.tables.choose import Candidate, Frontier, Meter, Turns, choose
from sitq.record import Limit

NOW = 1_000_000_000


def lane(number, *items, tenant=None, keys=(), more=False):
    return Candidate(
        number, tenant, tuple(keys), [(-priority, sequence, None) for priority, sequence in items], more
    )


def pick(*lanes, n=10, meters=None, turns=None, frontier=None, contested=frozenset(), fair=True):
    return choose(
        list(lanes),
        meters or {},
        turns or Turns(),
        n=n,
        now=NOW,
        frontier=frontier or Frontier(),
        contested=contested,
        fair=fair,
    )


def test_lanes_merge_by_priority_then_sequence():
    assert pick(lane(1, (5, 3), (0, 1)), lane(2, (5, 2), (0, 4))).chosen == [2, 3, 1, 4]


def test_tenants_take_turns():
    turns = Turns()
    chosen = pick(
        lane(1, (9, 1), (9, 2), tenant="a"), lane(2, (0, 3), (0, 4), tenant="b"), turns=turns
    ).chosen
    assert chosen == [1, 3, 2, 4]
    assert turns.of == {"a": 2_000_000, "b": 2_000_000}


def test_a_lane_over_its_limit_is_held_and_the_others_go_on():
    meters = {"k": Meter(Limit("k", slots=1))}
    choice = pick(lane(1, (9, 1), (9, 2), keys=["k"]), lane(2, (0, 3)), meters=meters)
    assert choice.chosen == [1, 3]
    assert choice.held == {1: "k"}


def test_a_rate_admits_its_burst():
    meters = {"k": Meter(Limit("k", rate=1, per=1_000_000, burst=2))}
    choice = pick(lane(1, (0, 1), (0, 2), (0, 3), keys=["k"]), meters=meters)
    assert choice.chosen == [1, 2]
    assert meters["k"].opens() == NOW + 1_000_000


def test_it_stops_where_unseen_lanes_may_come_first():
    choice = pick(lane(1, (5, 1), (0, 9)), frontier=Frontier(plain=(-3, 5)))
    assert (choice.chosen, choice.short) == ([1], True)


def test_it_stops_where_a_lane_may_have_more_than_was_seen():
    choice = pick(lane(1, (5, 1), more=True), lane(2, (0, 2)))
    assert (choice.chosen, choice.short) == ([1], True)


def test_it_stops_where_a_held_lane_of_the_same_key_may_come_first():
    meters = {"open": Meter(Limit("open")), "shut": Meter(Limit("shut", slots=0))}
    choice = pick(
        lane(1, (5, 1), keys=["open", "shut"]), lane(2, (0, 2)), meters=meters, contested=frozenset({"open"})
    )
    assert (choice.chosen, choice.held, choice.short) == ([], {1: "shut"}, True)


def test_what_is_behind_the_frontier_moves_with_the_turn_that_it_shares():
    choice = pick(lane(1, (0, 1)), lane(2, (0, 2)), lane(3, (0, 9)), frontier=Frontier(plain=(0, 5)))
    assert (choice.chosen, choice.short) == ([1, 2], True)


def test_a_tenant_behind_the_frontier_comes_before_what_has_had_its_turn():
    choice = pick(lane(1, (0, 1), (0, 2), tenant="a"), frontier=Frontier(fair=(0, 0, 5)))
    assert (choice.chosen, choice.short) == ([1], True)


def test_a_held_lane_gives_way_only_while_its_key_has_capacity():
    meters = {"k": Meter(Limit("k", slots=1))}
    choice = pick(
        lane(1, (0, 1), (0, 3), keys=["k"]), lane(2, (0, 2)), meters=meters, contested=frozenset({"k"})
    )
    assert (choice.chosen, choice.held, choice.short) == ([1, 2], {1: "k"}, False)


def test_it_stops_where_a_lane_of_a_contested_key_has_fallen_behind_its_tenants_turn():
    meters = {"k": Meter(Limit("k"))}
    choice = pick(
        lane(1, (5, 1), tenant="a"),
        lane(2, (0, 2), tenant="a", keys=["k"]),
        lane(3, (0, 3), tenant="b"),
        meters=meters,
        contested=frozenset({"k"}),
    )
    assert (choice.chosen, choice.short, choice.contested) == ([1], True, {"k"})


@pytest.mark.parametrize("seed", range(200))
def test_where_neither_limits_nor_turns_make_a_difference_the_short_way_comes_to_the_same(seed):
    dice = random.Random(seed)
    sequences = iter(dice.sample(range(1000), 60))
    lanes, meters = [], {"slots": Limit("slots", slots=100), "rate": Limit("rate", rate=1000, burst=100)}
    for number in range(dice.randint(1, 8)):
        items = sorted((-dice.randint(0, 2), next(sequences)) for _ in range(dice.randint(0, 6)))
        keys = dice.sample(["slots", "rate"], dice.randint(0, 2))
        ready = [(-priority, sequence) for priority, sequence in items]
        lanes.append((number, ready, keys, bool(items) and dice.random() < 0.5))
    frontier = Frontier(plain=(-dice.randint(0, 2), dice.randint(0, 999))) if dice.random() < 0.5 else None

    def chosen(fair):
        turns, used = Turns(7), {key: Meter(limit) for key, limit in meters.items()}
        candidates = [lane(number, *ready, keys=keys, more=more) for number, ready, keys, more in lanes]
        choice = pick(*candidates, n=1 + seed % 20, meters=used, turns=turns, frontier=frontier, fair=fair)
        return choice.chosen, turns, used, [one.used for one in candidates]

    assert chosen(fair=False) == chosen(fair=True)
