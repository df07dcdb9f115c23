from sitq.backends.sqlite.choose import Candidate, Meter, Turns, choose
from sitq.record import Limit

NOW = 1_000_000_000


def lane(number, *items, tenant=None, keys=(), more=False):
    return Candidate(
        number, tenant, tuple(keys), [(priority, sequence, None) for priority, sequence in items], more
    )


def pick(*lanes, n=10, meters=None, turns=None, frontier=(), contested=frozenset()):
    return choose(
        list(lanes),
        meters or {},
        turns or Turns(),
        n=n,
        now=NOW,
        frontier=list(frontier),
        contested=contested,
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
    choice = pick(lane(1, (5, 1), (0, 9)), frontier=[(0, -3, 5)])
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
