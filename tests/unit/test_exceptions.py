import builtins
import copy
import pickle

import pytest

from sitq import exceptions
from sitq.exceptions import (
    BackendError,
    ConnectionError,  # noqa: A004 - the API's own word
    DuplicateTaskError,
    ResourceExhaustionError,
    SerializationError,
    SignatureError,
    SitqError,
    TaskExecutionError,
    TimeoutError,
    UnknownFunctionError,
    ValidationError,
    WorkerError,
)

EVERY = [getattr(exceptions, name) for name in exceptions.__all__]


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class OwnInit(SitqError):
    def __init__(self, code, *, extra):
        super().__init__(f"code {code}", task_id="t")
        self.code, self.extra = code, extra


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_prints_its_message_and_keeps_its_context(kind):
    cause = ValueError("below")
    error = kind("what happened", task_id="t-1", operation="enqueue", cause=cause)
    assert str(error) == error.message == "what happened"
    assert (error.task_id, error.operation, error.cause) == ("t-1", "enqueue", cause)
    assert isinstance(error, SitqError)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_error_survives_pickling(kind, protocol):
    error = kind("what happened", task_id="t-1", operation="enqueue", cause=ValueError("below"))
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert (str(again), again.args) == ("what happened", error.args)
    assert (again.task_id, again.operation, again.__notes__) == ("t-1", "enqueue", ["a note"])
    assert repr(again.cause) == repr(again.__cause__) == "ValueError('below')"


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_can_be_made_without_arguments(kind):
    error = pickle.loads(pickle.dumps(kind()))
    assert (str(error), error.task_id, error.operation, error.cause) == ("", None, None, None)


@pytest.mark.parametrize("kind", EVERY)
def test_context_is_keyword_only(kind):
    with pytest.raises(TypeError):
        kind("message", "t-1")


def test_fields_of_a_failed_task_survive_pickling():
    error = TaskExecutionError("task failed", error_type="KeyError", error_message="'x'", traceback="Trace…")
    again = pickle.loads(pickle.dumps(error))
    assert (again.error_type, again.error_message, again.traceback) == ("KeyError", "'x'", "Trace…")


def test_the_existing_id_of_a_duplicate_survives_pickling():
    assert pickle.loads(pickle.dumps(DuplicateTaskError("taken", existing_id="a"))).existing_id == "a"


def test_the_cause_falls_back_on_the_one_of_raise_from():
    below = OSError("disk")
    with pytest.raises(BackendError) as caught:
        raise BackendError("failed") from below
    assert caught.value.cause is below


def test_a_given_cause_is_printed_in_tracebacks():
    below = OSError("disk")
    assert BackendError("failed", cause=below).__cause__ is below


def test_a_given_cause_wins_over_the_one_of_raise_from():
    given = OSError("disk")
    with pytest.raises(BackendError) as caught:
        raise BackendError("failed", cause=given) from KeyError("x")
    assert caught.value.cause is given


@pytest.mark.parametrize("cause", [TwoArguments("a", "b"), type("Local", (Exception,), {})("a b")])
def test_a_cause_that_does_not_survive_pickling_is_described(cause):
    again = pickle.loads(pickle.dumps(SitqError("failed", cause=cause)))
    assert str(again) == "failed"
    assert type(again.cause) is SitqError
    assert str(again.cause) == f"{type(cause).__qualname__}: a b"


def test_an_unprintable_cause_is_described_too():
    cause = Unprintable(lambda: None)  # a lambda does not pickle either
    again = pickle.loads(pickle.dumps(SitqError("failed", cause=cause)))
    assert "Unprintable" in str(again.cause)


def test_a_subclass_with_its_own_init_survives_pickling():
    again = pickle.loads(pickle.dumps(OwnInit(7, extra=[1])))
    assert (again.code, again.extra, again.task_id, str(again)) == (7, [1], "t", "code 7")


def test_errors_can_be_copied():
    assert copy.copy(ConnectionError("gone", task_id="t")).task_id == "t"


def test_errors_are_caught_under_the_names_of_the_language():
    assert issubclass(TimeoutError, builtins.TimeoutError)
    assert issubclass(ConnectionError, builtins.ConnectionError)
    assert issubclass(ValidationError, ValueError)


def test_the_tree_is_the_documented_one():
    assert issubclass(ConnectionError, BackendError)
    assert issubclass(ResourceExhaustionError, BackendError)
    assert issubclass(SignatureError, SerializationError)
    assert issubclass(UnknownFunctionError, WorkerError)
