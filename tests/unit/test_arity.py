import functools
from typing import Annotated

import pytest

from sitq import CloudpickleSerializer, Depends, Task, task
from sitq.codec import Codec
from sitq.decorator import called
from sitq.exceptions import ValidationError
from sitq.options import NO_OPTIONS


def record(function, /, *args, **kwargs):
    function, args, options = called(function, args, NO_OPTIONS)
    return Codec(CloudpickleSerializer()).record("id", function, args, kwargs, options)


def client(): ...


def plain(a, b): ...
def typed(a: int, b: str): ...
def default(a, b=1): ...
def by_position(a, /, b=1): ...
def by_name(a, *, b): ...
def many(a, *more): ...
def named(a, **more): ...
def given(a, db=Depends(client)): ...
def annotated(a: int, db: Annotated[object, Depends(client)]): ...


def seen(function):
    @functools.wraps(function)
    def with_more(*args, **kwargs):
        return function("more", *args, **kwargs)

    return with_more


@seen
def behind(more, a): ...


class Shop:
    def sell(self, a): ...

    @task(name="test_arity.refund")
    def refund(self, a): ...

    @classmethod
    def close(cls, a): ...

    def __call__(self, a): ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (1, 2), {}),
        (plain, (1,), {"b": 2}),
        (plain, (), {"a": 1, "b": 2}),
        (plain, (Task(plain, (1, 2)), 2), {}),
        (typed, (1,), {"b": "x"}),
        (default, (1,), {}),
        (default, (), {"a": 1}),
        (by_position, (1,), {"b": 1}),
        (by_name, (1,), {"b": 1}),
        (many, (1, 2, 3), {}),
        (named, (1,), {"x": 1}),
        (given, (1,), {}),
        (annotated, (1,), {}),
        (behind, (1,), {}),
        (functools.partial(behind), (1,), {}),
        (functools.partial(plain, 1), (2,), {}),
        (lambda a: a, (1,), {}),
        (Shop().sell, (1,), {}),
        (Shop().refund, (1,), {}),
        (Shop.close, (1,), {}),
        (Shop(), (1,), {}),
        (min, (1, 2), {}),
        (print, ("a", "b"), {"sep": ""}),
        (dict, (), {"a": 1}),
    ],
)
def test_a_call_that_fits_is_taken(function, args, kwargs):
    for _ in range(2):  # once unknown, once known
        record(function, *args, **kwargs)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "mistake"),
    [
        (plain, (), {}, r"plain\(\) cannot be .*missing a required argument: 'a'; it takes \(a, b\)"),
        (plain, (1,), {}, "missing a required argument: 'b'"),
        (plain, (1, 2, 3), {}, "too many positional arguments"),
        (plain, (1, 2), {"b": 3}, "multiple values for argument 'b'"),
        (plain, (1,), {"c": 3}, "missing a required argument: 'b'"),
        (plain, (1, 2), {"c": 3}, "unexpected keyword argument 'c'"),
        (typed, (1,), {}, "missing a required argument: 'b'"),
        (default, (), {}, r"missing a required argument: 'a'; it takes \(a, b=…\)"),
        (default, (1, 2, 3), {}, "too many positional arguments"),
        (by_position, (), {"a": 1}, "'a'"),
        (by_name, (1, 2), {}, "too many positional arguments"),
        (by_name, (1,), {}, "missing a required.*argument: 'b'"),
        (many, (), {}, "missing a required argument: 'a'"),
        (named, (), {"x": 1}, "missing a required argument: 'a'"),
        (given, (1, 2), {}, r"too many positional arguments; it takes \(a\)"),
        (annotated, (1, 2), {}, r"too many positional arguments; it takes \(a\)"),
        (lambda a: a, (), {}, "lambda.*missing a required argument: 'a'"),
        (functools.partial(plain, 1), (2, 3), {}, "too many positional arguments"),
        (Shop().sell, (), {}, r"sell\(\) cannot .*missing a required argument: 'a'; it takes \(a\)"),
        (Shop().sell, (1, 2), {}, "too many positional arguments"),
        (Shop().refund, (1, 2), {}, "too many positional arguments"),
        (Shop(), (), {}, "missing a required argument: 'a'"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_by_name_and_mistake(function, args, kwargs, mistake):
    for _ in range(2):
        with pytest.raises(ValidationError, match=mistake):
            record(function, *args, **kwargs)
