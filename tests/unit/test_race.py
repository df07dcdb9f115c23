from sitq.policy.race import keep_back

SOON = 5_000


def after(seconds, **given):
    return keep_back(
        seconds, **({"found": False, "promised": 100, "now": 100, "following": 100 + SOON} | given)
    )


def test_who_comes_too_late_keeps_back_longer_each_time_up_to_a_tenth_of_a_second():
    seconds, seen = 0.0, []
    for _ in range(6):
        seconds = after(seconds)
        seen.append(seconds)
    assert seen == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1]


def test_who_found_something_comes_on_time_again():
    assert after(0.1, found=True) == 0.0


def test_a_look_before_the_promised_instant_changes_nothing():
    assert after(0.04, now=99) == 0.04
    assert after(0.04, promised=None) == 0.04


def test_where_nothing_is_to_come_soon_nobody_keeps_back():
    assert after(0.1, following=None) == 0.0
    assert after(0.1, following=100 + 2_000_000) == 0.0
