"""Which exceptions a policy runs a task again after."""

import socket  # noqa: F401 - one of its names is used

import msgspec
import pytest

import sitq
from sitq.exceptions import ValidationError
from sitq.functions import register
from sitq.options import NO_OPTIONS, make_options
from sitq.policy import outcome as came_to
from sitq.policy.decide import decide, hook
from sitq.policy.kinds import kinds_of, kinds_of_class
from sitq.policy.retry import RetryPolicy, as_data, from_data, is_worth_it, next_delay
from sitq.record import SECOND, Failure, Record, State

NOW = 1_000 * SECOND


class Busy(Exception):
    pass


class VeryBusy(Busy):
    pass


class Nameless(type):
    def __getattribute__(cls, name):
        if name in {"__qualname__", "__module__", "__mro__"}:
            raise SystemExit(4)
        return super().__getattribute__(name)


def over_the_wire(policy):
    return from_data(msgspec.json.decode(msgspec.json.encode(as_data(policy))))


def again(policy, error):
    return is_worth_it(over_the_wire(policy), kinds_of(error))


def test_without_a_word_every_exception_is_worth_another_run():
    assert again(RetryPolicy(), ValueError("x"))
    assert is_worth_it(None, ())


@pytest.mark.parametrize("kind", [Busy, f"{__name__}.Busy"])
def test_only_what_is_named_is_run_again_and_its_subclasses(kind):
    policy = RetryPolicy(retry_on=[kind, OSError])
    assert again(policy, Busy())
    assert again(policy, VeryBusy())
    assert again(policy, ConnectionRefusedError())
    assert not again(policy, ValueError())
    assert not again(policy, Exception())


def test_what_is_to_stop_it_stops_it_whatever_else_is_said():
    policy = RetryPolicy(retry_on=[Exception], stop_on=[VeryBusy])
    assert again(policy, Busy())
    assert not again(policy, VeryBusy())
    assert not again(RetryPolicy(stop_on=["ValueError"]), UnicodeDecodeError("utf-8", b"", 0, 1, "x"))


def test_a_group_is_each_of_the_exceptions_in_it():
    group = ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [VeryBusy()])])
    assert again(RetryPolicy(retry_on=[Busy]), group)
    assert not again(RetryPolicy(stop_on=[ValueError]), group)
    assert not again(RetryPolicy(retry_on=[KeyError]), group)


def test_a_built_in_class_goes_by_its_bare_name():
    assert kinds_of(ConnectionRefusedError()) == (
        "ConnectionRefusedError",
        "ConnectionError",
        "OSError",
        "Exception",
        "BaseException",
    )
    assert RetryPolicy(retry_on=["builtins.OSError"]).retry_on == ("OSError",)


def test_a_name_that_a_module_offers_stands_for_the_class():
    policy = RetryPolicy(retry_on=["sitq.ConnectionError", "socket.timeout"])
    assert policy.retry_on == ("sitq.exceptions.ConnectionError", "TimeoutError")
    assert again(policy, sitq.ConnectionError())
    assert again(policy, TimeoutError())


def test_a_name_of_a_module_that_is_not_here_is_taken_as_it_is():
    assert RetryPolicy(stop_on=["far.away.Error"]).stop_on == ("far.away.Error",)


def test_a_class_that_hides_its_name_is_no_harm():
    nameless = Nameless("Hidden", (Exception,), {})
    assert kinds_of(nameless()) == ()
    assert kinds_of_class(nameless) == ()
    assert not again(RetryPolicy(retry_on=[OSError]), nameless())


def test_a_huge_group_has_a_bounded_number_of_names():
    kinds = [type(f"Error{n}", (Exception,), {}) for n in range(1000)]
    assert len(kinds_of(ExceptionGroup("g", [kind() for kind in kinds]))) == 100


@pytest.mark.parametrize("wrong", ["ValueError", [int], [lambda _: True], [""], ["a..b"], [3], 3])
@pytest.mark.parametrize("field", ["retry_on", "stop_on"])
def test_what_is_no_exception_is_refused(field, wrong):
    with pytest.raises(ValidationError, match=field):
        RetryPolicy(**{field: wrong})


def test_a_list_of_delays_is_followed_and_its_last_one_repeated():
    policy = over_the_wire(RetryPolicy(delays=[1, 5, 30.5]))
    assert policy.max_retries == 3
    assert [next_delay(policy, n) for n in range(4)] == [1 * SECOND, 5 * SECOND, round(30.5 * SECOND), None]
    longer = over_the_wire(RetryPolicy(delays=[1, 5], max_retries=4))
    assert [next_delay(longer, n) for n in range(5)] == [SECOND, 5 * SECOND, 5 * SECOND, 5 * SECOND, None]
    assert next_delay(RetryPolicy(delays=[10], jitter=True), 0, lambda: 0.0) == 5 * SECOND


def test_the_option_takes_a_list_of_delays():
    assert make_options(NO_OPTIONS, {"retry": [1, 2]}).retry == RetryPolicy(delays=[1, 2])


@pytest.mark.parametrize("wrong", ["1, 2", 3, [-1], ["x"], range(101)])
def test_delays_that_are_none_are_refused(wrong):
    with pytest.raises(ValidationError, match="delay"):
        RetryPolicy(delays=wrong)


def test_a_policy_of_a_later_version_is_read_as_far_as_it_is_known():
    data = as_data(RetryPolicy(max_retries=5)) | {"mood": "sunny"}
    assert from_data(data) == RetryPolicy(max_retries=5)


# -- what follows when the budget is spent -------------------------------------------------------------------


def give_up(task_id, error):
    pass


def claimed(**fields):
    return Record(**({"id": "a", "token": "t", "attempt": 1, "state": State.RUNNING} | fields))


def test_only_a_registered_function_can_be_called_when_the_budget_is_spent():
    with pytest.raises(ValidationError, match="@task"):
        RetryPolicy(on_exhausted=lambda task_id, error: None)
    registered = register(give_up, name="retry-kinds-give-up")
    assert over_the_wire(RetryPolicy(on_exhausted=registered)).on_exhausted == "retry-kinds-give-up"
    assert RetryPolicy(on_exhausted="app:give_up").on_exhausted == "app:give_up"


def test_the_hook_is_told_the_error_of_a_task_that_failed_for_good():
    retry = as_data(RetryPolicy(max_retries=1, on_exhausted="f"))
    raised = came_to.Raised(Failure(kind="raised", type="ValueError", message="no"), ("ValueError",))
    spent = decide(claimed(failures=1, retry=retry), raised, NOW)
    assert hook(claimed(failures=1, retry=retry), spent) == ("f", "ValueError: no")
    stopped = decide(claimed(retry=retry | {"stop_on": ["ValueError"]}), raised, NOW)
    assert hook(claimed(retry=retry), stopped) == ("f", "ValueError: no")


@pytest.mark.parametrize(
    "outcome",
    [
        came_to.Returned(b""),
        came_to.Cancelled(Failure(kind="cancelled")),
        came_to.Unrunnable(Failure(kind="unrunnable")),
        came_to.Condemned(Failure(kind="crashed")),
    ],
)
def test_no_other_end_calls_the_hook(outcome):
    record = claimed(retry=as_data(RetryPolicy(on_exhausted="f")))
    assert hook(record, decide(record, outcome, NOW)) is None


def test_without_a_policy_or_a_hook_nothing_follows():
    failed = decide(claimed(), came_to.Raised(Failure(kind="raised")), NOW)
    assert hook(claimed(), failed) is None
    assert hook(claimed(retry=as_data(RetryPolicy(max_retries=0))), failed) is None
    assert hook(claimed(retry={"max_retries": []}), failed) is None


# -- what a process that died means --------------------------------------------------------------------------


def test_a_process_that_died_counts_as_a_run_alone_and_the_second_one_condemns():
    died = came_to.Crashed(Failure(kind="crashed", message="it was killed by SIGSEGV", attempt=1))
    first = decide(claimed(), died, NOW)
    assert (first.crashes, first.alone, first.failure, first.delay) == (1, 1, died.failure, 0)
    second = decide(claimed(crashes=1, alone=1, attempt=2), died, NOW)
    assert second.state is State.DEAD
    assert "SIGSEGV" in second.failure.message
    assert "quarantined" in second.failure.message


def test_deaths_of_whole_workers_before_do_not_condemn_with_the_first_death_of_a_process():
    died = came_to.Crashed(Failure(kind="crashed"))
    move = decide(claimed(crashes=5, alone=0), died, NOW)
    assert (move.crashes, move.alone) == (6, 1)
