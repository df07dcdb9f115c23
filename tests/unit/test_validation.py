import asyncio
import contextlib
import enum
import math
import unicodedata
import warnings
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitq import validation
from sitq.exceptions import ValidationError


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 7


class Indexable:
    def __index__(self):
        return 3


# --- names ---


@pytest.mark.parametrize(
    "good", ["a", "default", "e-mails.v2/high:1", "a b", "große", "очередь", "队列", "x" * 255]
)
def test_readable_names_are_taken_as_they_are(good):
    assert validation.name(good) == good


def test_names_are_brought_into_nfc():
    assert validation.name("e\u0301te\u0301") == "\u00e9t\u00e9"
    assert validation.name("e\u0301" * 127) == "\u00e9" * 127


def test_a_name_that_is_an_enumeration_becomes_plain_text():
    assert validation.name(Colour.RED) == "red"
    assert type(validation.name(Colour.RED)) is str


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x" * 256,
        "é" * 128,
        "x" * 10_000_000,
        "a\x00b",
        "a\nb",
        "a\tb",
        "a\x7fb",
        "\ud800",
        "a\udfffb",
        "\u202eevil",
        "a\u200bb",
        "\ufeffa",
        "a\u00a0b",
        "\u2028",
        "\ue000",
        "\x1b[31mred",
        None,
        5,
        b"emails",
        ["emails"],
        object(),
    ],
)
def test_unprintable_long_empty_and_other_names_are_refused(bad):
    with pytest.raises(ValidationError) as caught:
        validation.name(bad)
    assert "queue" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


def test_the_message_names_what_the_name_was_for_and_the_character():
    with pytest.raises(ValidationError, match=r"the schedule .* contains '\\x00', which is not printable"):
        validation.name("a\0", "schedule")


@given(st.text(max_size=140))
def test_a_name_is_clean_or_refused(text):
    try:
        clean = validation.name(text)
    except ValidationError:
        return
    assert clean.isprintable()
    assert 1 <= len(clean.encode()) <= 255
    assert unicodedata.is_normalized("NFC", clean)
    assert validation.name(clean) == clean
    assert clean == unicodedata.normalize("NFC", text)


def test_task_ids_are_names_of_at_most_128_bytes():
    assert validation.task_id("order-5") == "order-5"
    assert validation.task_id("x" * 128) == "x" * 128
    assert validation.task_id("e\u0301") == "\u00e9"
    for bad in ("x" * 129, "ü" * 65, "", "a\0"):
        with pytest.raises(ValidationError, match="task id"):
            validation.task_id(bad)
    with pytest.raises(ValidationError, match=r"must be text, not 5; .* str\(value\)"):
        validation.task_id(5)


# --- functions ---


async def work():
    """Never runs here."""


def test_anything_callable_is_a_function():
    for good in (print, work, lambda: None, int, Colour, validation.name.__call__):
        assert validation.function(good) is good


def test_a_coroutine_is_refused_with_a_hint_and_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValidationError, match=r"pass the function, not its call: enqueue\(work, …\)"):
            validation.function(work())


async def test_a_running_task_is_refused_with_the_same_hint():
    running = asyncio.ensure_future(work())
    with pytest.raises(ValidationError, match="pass the function, not its call"):
        validation.function(running)
    await running


def test_a_functions_name_or_value_is_refused():
    with pytest.raises(
        ValidationError, match=r"the text 'pkg\.work'; pass the function itself, not its name"
    ):
        validation.function("pkg.work")
    with pytest.raises(
        ValidationError, match="is None, which cannot be called; pass the function, not its call"
    ):
        validation.function(None)


# --- times ---


@pytest.mark.parametrize(
    ("when", "microseconds"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC), 2**31 * 1_000_000),
        (datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC), 2**32 * 1_000_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), validation.MAX_INSTANT),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
        (
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=14))),
            253402250399999999,
        ),
        (datetime(2024, 10, 27, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Berlin")), 1_729_989_000_000_000),
        (datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), 1_729_992_600_000_000),
    ],
)
def test_instants_are_exact_microseconds(when, microseconds):
    assert validation.instant(when) == microseconds


@settings(max_examples=50)
@given(st.integers(0, validation.MAX_INSTANT), st.timezones())
def test_an_instant_keeps_every_microsecond_in_every_time_zone(microseconds, zone):
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    with contextlib.suppress(OverflowError):  # the local time may be in the year 10000
        when = when.astimezone(zone)
    assert validation.instant(when) == microseconds


@pytest.mark.parametrize(
    "bad",
    [
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_instants_outside_of_1970_to_9999_are_refused(bad):
    with pytest.raises(ValidationError, match=r"eta .* is outside of the years 1970 to 9999"):
        validation.instant(bad)


def test_a_naive_datetime_is_refused_with_the_way_to_fix_it():
    with pytest.raises(ValidationError, match=r"run_at 2030.* has no time zone; .*replace\(tzinfo=UTC\)"):
        validation.instant(datetime(2030, 1, 1), "run_at")  # noqa: DTZ001


class NoOffset(tzinfo):
    def utcoffset(self, when):
        return None


class BrokenOffset(tzinfo):
    def utcoffset(self, when):
        raise LookupError("no table")


def test_time_zones_without_an_offset_are_refused():
    with pytest.raises(ValidationError, match="has no time zone"):
        validation.instant(datetime(2030, 1, 1, tzinfo=NoOffset()))
    with pytest.raises(ValidationError, match="no table"):
        validation.instant(datetime(2030, 1, 1, tzinfo=BrokenOffset()))


@pytest.mark.parametrize(
    "bad", [30, 1.5, "2030-01-01", None, timedelta(1), datetime(2030, 1, 1, tzinfo=UTC).date()]
)
def test_other_things_than_datetimes_are_no_instants(bad):
    with pytest.raises(ValidationError, match="eta must be an aware datetime"):
        validation.instant(bad)


def test_a_number_as_instant_gets_a_hint():
    with pytest.raises(ValidationError, match="or use delay="):
        validation.instant(30)


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (0, 0),
        (-0.0, 0),
        (1, 1_000_000),
        (0.1, 100_000),
        (1.000001, 1_000_001),
        (timedelta(days=1, microseconds=1), 86_400_000_001),
        (7800 * 31_557_600, validation.MAX_DURATION),
        (timedelta(microseconds=validation.MAX_DURATION), validation.MAX_DURATION),
        (Level.HIGH, 7_000_000),
    ],
)
def test_durations_are_exact_microseconds(value, microseconds):
    assert validation.duration(value, "delay") == microseconds
    assert type(validation.duration(value, "delay")) is int


@pytest.mark.parametrize(
    "bad",
    [
        -1, -1e-9, math.nan, math.inf, -math.inf, 1e308, 10**400, timedelta.max, timedelta(microseconds=-1),
        True, False, "5", None, 1j, [1],
    ],
)  # fmt: skip
def test_impossible_durations_are_refused(bad):
    with pytest.raises(ValidationError, match="delay must be"):
        validation.duration(bad, "delay")


def test_the_longest_duration_leaves_this_century_room_before_the_year_10000():
    end_of_century = validation.instant(datetime(2099, 12, 31, tzinfo=UTC))
    assert end_of_century + validation.MAX_DURATION <= validation.MAX_INSTANT


def test_a_timeout_is_seconds_or_none():
    assert validation.timeout(None) is None
    assert validation.timeout(0) == 0.0
    assert validation.timeout(2.5) == 2.5
    assert validation.timeout(timedelta(milliseconds=1500)) == 1.5
    with pytest.raises(ValidationError, match="use None for no limit"):
        validation.timeout(math.inf)
    with pytest.raises(ValidationError, match="timeout must be"):
        validation.timeout(-1)


# --- numbers ---


def test_priorities_reach_from_minus_100_to_100():
    for good in (-100, 0, 100, Level.HIGH, Indexable()):
        assert -100 <= validation.priority(good) <= 100
    assert type(validation.priority(Level.HIGH)) is int or validation.priority(Level.HIGH) == 7
    for bad in (-101, 101, 10**400):
        with pytest.raises(ValidationError, match="priority must be from -100 to 100"):
            validation.priority(bad)
    for bad in (True, 1.0, "5", None):
        with pytest.raises(ValidationError, match="priority must be a whole number"):
            validation.priority(bad)


def test_positive_integers_are_bounded():
    assert validation.positive_int(1, "max_concurrency", 10) == 1
    assert validation.positive_int(10, "max_concurrency", 10) == 10
    assert validation.positive_int(Indexable(), "max_concurrency", 10) == 3
    for bad in (0, -1, 11, 10**5000, True, 2.0, "3", None, math.nan):
        with pytest.raises(ValidationError, match="max_concurrency must be"):
            validation.positive_int(bad, "max_concurrency", 10)


# --- backends ---


class Store:
    def put(self): ...
    def take(self): ...
    def apply(self): ...


def test_a_backend_is_passed_through():
    store = Store()
    assert validation.backend(store) is store


def test_a_queue_name_in_the_place_of_a_backend_is_told_where_to_go():
    with pytest.raises(
        ValidationError, match=r"the text 'emails'; .*queue's name goes to TaskQueue\(backend, queue=…\)"
    ):
        validation.backend("emails")


def test_a_url_in_the_place_of_a_backend_is_not_repeated():
    with pytest.raises(ValidationError, match="open the URL") as caught:
        validation.backend("postgresql://me:secret@host/db")
    assert "secret" not in str(caught.value)


def test_a_class_or_another_object_in_the_place_of_a_backend_is_refused():
    with pytest.raises(ValidationError, match=r"not its class; pass Store\(…\)"):
        validation.backend(Store)
    with pytest.raises(ValidationError, match="not None, which has no put and no take and no apply"):
        validation.backend(None)
    with pytest.raises(ValidationError, match="not a dict"):
        validation.backend({})
