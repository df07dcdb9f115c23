from sitq.policy.restart import GIVEN_UP_AFTER, QUICKLY, Deaths


def _pauses(deaths, age, count):
    pauses = []
    for _ in range(count):
        deaths = deaths.after(age, ready=True)
        pauses.append(deaths.pause)
    return pauses


def test_the_first_quick_death_is_answered_at_once_and_later_ones_ever_more_slowly():
    assert _pauses(Deaths(), 1.0, 8) == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_process_that_lived_long_is_replaced_at_once():
    assert _pauses(Deaths(quick=50), QUICKLY, 3) == [0.0, 0.0, 0.0]


def test_only_deaths_in_a_row_before_the_process_was_ready_are_hopeless():
    deaths = Deaths()
    for _ in range(GIVEN_UP_AFTER - 1):
        deaths = deaths.after(0.1, ready=False)
    assert not deaths.hopeless
    assert deaths.after(0.1, ready=False).hopeless
    assert not deaths.after(0.1, ready=True).hopeless


def test_no_number_of_deaths_is_too_much_for_the_sum():
    assert Deaths(quick=10**6).pause == 10.0
