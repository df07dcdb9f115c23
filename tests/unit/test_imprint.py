from collections.abc import Callable
from datetime import date
from enum import Enum
from typing import Annotated
from uuid import UUID

import pytest

from sitq import (
    CloudpickleSerializer,
    ConcurrencyLimit,
    Fair,
    RateLimit,
    Task,
    Unique,
    debounce,
    task,
    throttle,
)
from sitq.codec import Codec
from sitq.decorator import called
from sitq.exceptions import ValidationError
from sitq.options import NO_OPTIONS, make_options
from sitq.parameters import rules_of
from sitq.record import SECOND, Limit
from sitq.record import Fair as StoredFair
from sitq.record import Unique as StoredUnique


def work(customer="c", *, amount=1): ...


def record(function=work, /, *args, options=None, **kwargs):
    codec = Codec(CloudpickleSerializer())
    return codec.record("id", function, args, kwargs, make_options(NO_OPTIONS, options or {}))


def limits(function=work, /, *args, limits=(), **kwargs):
    return record(function, *args, options={"limits": limits} if limits else None, **kwargs).limits


class Plan(Enum):
    FREE = "free"


# --- limits ---


def test_a_limit_without_a_key_is_about_the_function():
    (limit,) = limits(limits=[ConcurrencyLimit(5)])
    assert limit == Limit("function:" + record().name, slots=5)


def test_a_rate_and_slots_of_one_key_are_one_limit_for_the_store():
    both = limits(limits=[RateLimit(10, per=60, key="k", burst=2), ConcurrencyLimit(5, key="k")])
    assert both == (Limit("k", slots=5, rate=10, per=60 * SECOND, burst=2),)


def test_a_second_rate_of_a_key_has_a_key_of_its_own():
    both = limits(limits=[RateLimit(10, key="k"), RateLimit(100, per=3600, key="k")])
    assert [(limit.key, limit.rate, limit.per) for limit in both] == [
        ("k", 10, SECOND),
        ("k:3600s", 100, 3600 * SECOND),
    ]


def test_two_limits_that_nothing_tells_apart_are_refused():
    with pytest.raises(ValidationError, match="two limits of the same kind are for the key 'k'"):
        limits(limits=[ConcurrencyLimit(1, key="k"), ConcurrencyLimit(2, key="k")])


def test_a_key_can_be_taken_from_the_call_and_none_is_no_limit():
    by_customer = ConcurrencyLimit(
        1, key=lambda customer, amount=1: f"customer:{customer}" if amount else None
    )
    assert limits(work, 42, limits=by_customer)[0].key == "customer:42"
    assert limits(work, 42, limits=by_customer, amount=0) == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (7, "7"),
        (True, "True"),
        (b"\x01", "01"),
        (Plan.FREE, "free"),
        (date(2026, 1, 2), "2026-01-02"),
        (UUID(int=1), str(UUID(int=1))),
    ],
)
def test_a_key_from_a_plain_value_is_its_text(value, text):
    assert limits(work, limits=ConcurrencyLimit(1, key=lambda *_: value))[0].key == text


def test_a_key_of_no_plain_value_is_refused_as_its_text_may_differ_elsewhere():
    with pytest.raises(ValidationError, match=r"of type list, of which no key can be made"):
        limits(work, limits=ConcurrencyLimit(1, key=lambda *_: []))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (lambda customer, **_: customer, "c1"),
        (lambda customer: customer, "c1"),
        (lambda amount: amount, "3"),
        (lambda amount, customer: f"{customer}-{amount}", "c1-3"),
        (lambda *, customer, other="o": f"{customer}-{other}", "c1-o"),
        (lambda **every: "-".join(every), "customer-amount"),
        (lambda c, **_: c, "c1"),
        (lambda c, a: f"{c}-{a}", "c1-3"),
        (lambda c, /: c, "c1"),
        (lambda *every: len(every), "2"),
        (lambda c="?": c, "c1"),
    ],
)
@pytest.mark.parametrize("style", ["position", "name"])
def test_a_key_function_gets_the_arguments_that_it_names_however_they_are_passed(key, text, style):
    def plain(customer, amount=3): ...

    given = {"customer": "c1"} if style == "name" else {}
    by_key = ConcurrencyLimit(1, key=key)
    assert limits(plain, *([] if given else ["c1"]), limits=by_key, **given)[0].key == text
    assert limits(plain, *([] if given else ["c1"]), limits=by_key, **given, amount=3)[0].key == text


def test_a_key_function_gets_what_variable_parameters_take():
    def many(customer, *items, **more): ...

    given = [many, "c1", "a", "b"]
    assert limits(*given, limits=ConcurrencyLimit(1, key=lambda items: f"{len(items)}"))[0].key == "2"
    assert limits(*given, tag="t", limits=ConcurrencyLimit(1, key=lambda tag, **_: tag))[0].key == "t"
    assert limits(*given, limits=ConcurrencyLimit(1, key=lambda *all_: len(all_)))[0].key == "3"
    by_both = ConcurrencyLimit(1, key=lambda *all_, **more: f"{len(all_)}-{','.join(more)}")
    assert limits(*given, tag="t", limits=by_both)[0].key == "3-tag"


def test_a_key_function_need_not_name_the_instance_of_a_method_or_a_default():
    class Shop:
        @task(name="test_imprint.sell", limits=ConcurrencyLimit(1, key=lambda customer: customer))
        def sell(self, customer): ...

    function, args, options = called(Shop().sell, ("c1",), NO_OPTIONS)
    made = Codec(CloudpickleSerializer()).record("id", function, args, {}, options)
    assert made.limits[0].key == "c1"
    waiting = record(work, "c", options={"unique": debounce(1, key=lambda customer, amount: f"{amount}")})
    assert waiting.unique.key == "1"


def test_a_key_function_that_names_what_the_task_has_not_is_told_what_it_has():
    with pytest.raises(ValidationError, match=r"by their names: customer, amount"):
        limits(work, "c", limits=ConcurrencyLimit(1, key=lambda c, nope, more: c))


def test_a_key_function_that_fails_is_named():
    with pytest.raises(ValidationError, match=r"key function .*lambda.* failed: ZeroDivisionError"):
        limits(work, limits=ConcurrencyLimit(1, key=lambda *_: 1 / 0))


@pytest.mark.parametrize("value", ["x" * 300, "a\nb", "\ud800"])
def test_a_key_that_is_no_name_is_told_by_its_digest(value):
    def key(*_):
        return value

    (limit,) = limits(limits=ConcurrencyLimit(1, key=key))
    assert limit == limits(limits=ConcurrencyLimit(1, key=key))[0]
    assert len(limit.key.encode()) <= 255
    assert limit.key.isprintable()
    assert "#" in limit.key


# --- rules at parameters ---


def on_customer(customer: Annotated[str, ConcurrencyLimit(1), RateLimit(5)], other: int = 0): ...


def on_keyword(*, customer: Annotated[str | None, ConcurrencyLimit(1)] = "dflt"): ...


def of_family(customer: "Annotated[int, ConcurrencyLimit(1, key='customer')]"): ...


def by_function(order: Annotated[dict, ConcurrencyLimit(1, key=lambda order: order["by"])]): ...


def of_tenant(
    tenant: Annotated[str, Fair(weight=2)], job: Annotated[int, Unique(clash="raise")] | None = None
): ...


def test_a_limit_at_a_parameter_is_about_the_function_with_that_argument():
    (limit,) = limits(on_customer, "a")
    assert (limit.key, limit.slots, limit.rate) == (
        f"function:{record(on_customer, 'a').name}:customer=a",
        1,
        5,
    )
    assert limits(on_customer, customer="a") == (limit,)
    assert limits(on_customer, "b") != (limit,)


def test_the_default_of_a_parameter_counts_and_none_is_no_limit():
    assert limits(on_keyword)[0].key.endswith("customer=dflt")
    assert limits(on_keyword, customer=None) == ()


def test_functions_share_a_limit_by_the_key_of_a_family():
    assert limits(of_family, 42)[0].key == "customer:42"


def test_a_key_function_at_a_parameter_gets_the_argument():
    assert limits(by_function, {"by": "b"})[0].key == "b"


def test_limits_at_parameters_hold_beside_those_of_options():
    assert len(limits(on_customer, "a", limits=ConcurrencyLimit(3))) == 2


def test_tenant_and_uniqueness_can_stand_at_parameters_and_options_come_before_them():
    made = record(of_tenant, "t", 7)
    assert made.fair == StoredFair("t", 2.0)
    assert made.unique.key.endswith("job=7")
    assert made.unique.clash == "refuse"
    made = record(of_tenant, "t", 7, options={"fair": "other", "unique": "mine"})
    assert (made.fair.key, made.unique.key) == ("other", "mine")
    assert record(of_tenant, "t").unique is None


def test_annotations_may_name_what_is_defined_later():
    scope: dict[str, object] = {"Annotated": Annotated, "ConcurrencyLimit": ConcurrencyLimit}
    exec("def late(a: 'Annotated[Later, ConcurrencyLimit(1)]', b: 'Missing' = None): ...", scope)
    late: Callable[..., object] = scope["late"]
    with pytest.raises(ValidationError, match=r"Annotated\[Later, .* of 'a' cannot be read: NameError"):
        rules_of(late)
    scope["Later"] = str
    assert [ruled.name for ruled in rules_of(late)] == ["a"]


def test_the_class_of_a_limit_instead_of_a_limit_is_refused():
    def wrong(a: Annotated[str, ConcurrencyLimit]): ...

    with pytest.raises(ValidationError, match=r"holds the class ConcurrencyLimit; write ConcurrencyLimit"):
        rules_of(wrong)


def test_a_function_without_annotations_has_no_rules():
    assert rules_of(work) == rules_of(print) == rules_of(int) == ()


# --- fairness ---


def test_a_tenant_is_text_a_fair_or_made_of_the_call():
    def fair(value):
        return record(work, "c", options={"fair": value}).fair

    assert fair("a") == StoredFair("a", 1.0)
    assert fair(Fair("a", weight=2)) == StoredFair("a", 2.0)
    assert fair(lambda customer: customer) == StoredFair("c", 1.0)
    assert fair(Fair(lambda customer: customer, weight=3)) == StoredFair("c", 3.0)
    assert fair(lambda customer: Fair(customer, weight=4)) == StoredFair("c", 4.0)
    assert fair(lambda customer: None) is None


# --- uniqueness ---


def unique(value, /, *args, **kwargs):
    return record(work, *args, options={"unique": value}, **kwargs).unique


def whole(*args, **kwargs):
    return record(work, *args, options={"unique": True}, **kwargs).unique


def test_true_is_the_function_with_all_its_arguments_however_they_are_passed():
    key = whole().key
    assert key == whole("c").key == whole(customer="c").key == whole("c", amount=1).key
    assert len({key, whole("d").key, whole("c", amount=2).key, whole(1).key}) == 4
    assert whole("1").key != whole(1).key
    assert whole({"a": 1, "b": 2}).key == whole({"b": 2, "a": 1}).key


def test_true_needs_plain_arguments():
    with pytest.raises(ValidationError, match=r"unique=True makes a key of all arguments.*is no plain data"):
        record(by_function, object(), options={"unique": True, "limits": None})


def test_each_clash_and_scope_reaches_the_store():
    assert unique("k") == StoredUnique("k", "active", 0, "keep")
    assert unique(Unique("k", scope="waiting", clash="raise")) == StoredUnique("k", "waiting", 0, "refuse")
    assert unique(Unique("k", window=5, clash="again")) == StoredUnique("k", "window", 5 * SECOND, "again")
    replaced = unique(Unique("k", clash="replace", fields=("payload",)))
    assert (replaced.clash, replaced.fields) == ("replace", ("payload",))
    assert unique(lambda customer: None, "a") is None
    assert record(work, options={"unique": False}).unique is None


def test_what_replaces_cannot_take_the_value_of_another_task():
    parent = Task(work)
    assert record(work, parent, options={"unique": "k"}).edges
    with pytest.raises(ValidationError, match="cannot take the value of task"):
        record(work, parent, options={"unique": debounce(5, "k")})


def test_debounce_and_throttle():
    made = record(work, options={"unique": debounce(5, "k")})
    assert made.unique == StoredUnique("k", "waiting", 0, "replace")
    assert made.delay == 5 * SECOND
    assert unique(throttle(60, "k")) == StoredUnique("k", "window", 60 * SECOND, "keep")
    with pytest.raises(ValidationError, match="debounce says when to start"):
        record(work, options={"unique": debounce(5), "delay": 3})
