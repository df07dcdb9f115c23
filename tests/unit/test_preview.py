import functools
import gc
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitq.preview import preview
from sitq.shape import shape_of


class Loud:
    """Fails the test if any code of it runs."""

    def _fail(self, *args):
        raise AssertionError("user code was run")

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __eq__ = __getattribute__ = _fail
    __hash__ = None


class LoudText(str):
    __slots__ = ()

    def __repr__(self):
        raise AssertionError("user code was run")


class LoudList(list):
    def __iter__(self):
        raise AssertionError("user code was run")


class LoudMeta(type):
    @property
    def __name__(cls):
        raise AssertionError("user code was run")


class WithLoudMeta(metaclass=LoudMeta):
    pass


def login(user, password, api_key="", *, note=""):
    """Is never called."""


class Account:
    def login(self, user, secret):
        """Is never called."""


def test_plain_arguments_are_shown_as_they_are_written():
    assert preview(("a.png", 3), {"width": 100}) == "'a.png', 3, width=100"
    assert preview((), {}) == ""
    assert preview((None, True, 1.5, -7), {}) == "None, True, 1.5, -7"


def test_containers_are_shown_in_their_own_brackets():
    assert preview(([1, [2]], (3,), (), [], {}, set(), {4}), {}) == "[1, [2]], (3,), (), [], {}, set(), {4}"
    assert preview(({"a": {"b": 1}, 2: None},), {}) == "{'a': {'b': 1}, 2: None}"


def test_objects_are_shown_by_their_class_and_run_no_code():
    shown = preview((Loud(), LoudText("x"), LoudList([1]), WithLoudMeta(), Loud, print), {"k": [Loud()]})
    assert (
        shown
        == "<Loud>, <LoudText>, <LoudList>, <WithLoudMeta>, <type>, <builtin_function_or_method>, k=[<Loud>]"
    )


def test_bytes_are_shown_by_their_number():
    assert preview((b"\x00\xff", b""), {}) == "<2 bytes>, <0 bytes>"


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "Password",
        "db_password",
        "passwd",
        "pwd",
        "secret",
        "client_secret",
        "token",
        "access_token",
        "authorization",
        "Authorization",
        "api_key",
        "apiKey",
        "API-KEY",
        "x-api-key",
        "private_key",
        "key",
        "auth",
        "session_id",
        "cookie",
        "credentials",
        "card_number",
        "jwt",
        "passphrase",
    ],
)
def test_values_under_the_names_of_secrets_are_hidden(key):
    for kwargs in ({key: "hunter2"}, {"x": {key: "hunter2"}}, {"x": [{key: {"deep": "hunter2"}}]}):
        shown = preview((), kwargs)
        assert "hunter2" not in shown
        assert "***" in shown


@pytest.mark.parametrize("key", ["width", "monkey", "keyboard", "author", "path", "passenger", "spin", "to"])
def test_values_under_other_names_are_shown(key):
    assert preview((), {key: "shown"}) == f"{key}='shown'"


def test_positional_secrets_are_hidden_by_the_names_of_the_parameters():
    assert preview(("me", "hunter2", "k-1"), {"note": "hi"}, shape_of(login)) == "'me', ***, ***, note='hi'"
    assert preview(("me", "hunter2"), {}, shape_of(Account().login)) == "'me', ***"
    assert preview(("me", "hunter2"), {}, shape_of(Account.login)) == "'me', 'hunter2'"


def test_functions_without_plain_parameters_are_no_trouble():
    for function in (print, functools.partial(max, 1), Loud(), int, None, lambda *args: args):
        assert preview((1,), {}, shape_of(function)) == "1"


def test_what_a_partial_leaves_open_is_hidden_by_its_name():
    assert preview((1,), {}, shape_of(functools.partial(login, "x"))) == "***"


def test_passwords_in_urls_and_headers_are_hidden():
    assert preview(("postgresql://me:hunter2@host/db",), {}) == "'postgresql://me:***@host/db'"
    assert preview(("redis://:hunter2@host",), {}) == "'redis://:***@host'"
    assert preview(("Bearer abc.def", "Basic aHVudGVyMg=="), {}) == "'Bearer ***', 'Basic ***'"
    assert preview(("https://host/path",), {}) == "'https://host/path'"


def test_a_long_password_in_a_url_is_hidden_before_the_text_is_cut():
    assert "hunter" not in preview(("postgresql://me:" + "hunter" * 20 + "@host/db",), {})


def test_control_terminal_and_direction_characters_do_not_get_through():
    shown = preview(("\x1b[31mred\r\n\x00\u202eevil\u2066\ufeff\ud800",), {"\x1b[2J": 1})
    assert shown.isprintable()
    assert "\x1b" not in shown


def test_a_class_name_with_control_characters_is_escaped():
    kind = type("\x1b[31m\n", (), {})
    assert preview((kind(),), {}).isprintable()


def test_long_deep_and_many_values_are_shown_in_part():
    assert len(preview(("x" * 10_000_000,), {})) < 100
    assert preview(([[[[1]]]],), {}) == "[[[[…]]]]"
    assert preview((list(range(100)),), {}) == "[0, 1, 2, 3, 4, 5, 6, 7, …]"
    assert preview(({each: each for each in range(100)},), {}).endswith("7: 7, …}")
    assert preview((10**100_000,), {}) == f"<int of {(10**100_000).bit_length()} bits>"
    assert len(preview(("x" * 60,) * 1_000, {})) == 512
    assert len(preview((), {f"k{each}": "x" * 60 for each in range(1_000)})) == 512


def test_a_circle_ends():
    circle = []
    circle.append(circle)
    assert preview((circle,), {}) == "[[[[…]]]]"


def test_big_arguments_cost_no_more_than_small_ones():
    big = (list(range(1_000_000)), "x" * 10_000_000, {each: each for each in range(100_000)})
    began = time.perf_counter()
    for _ in range(20):
        preview(big, {})
    assert time.perf_counter() - began < 0.5


def test_what_cannot_be_shown_does_not_fail_the_call():
    assert preview(None, {}) == "…"
    assert preview((), {1: 2}) == "…"


def test_functions_are_not_kept_alive():
    def inner(password):
        """Is never called."""

    preview(("x",), {}, inner)
    reference = weakref.ref(inner)
    del inner
    gc.collect()
    assert reference() is None


@given(
    st.lists(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
        max_leaves=10,
    ), max_size=4),
    st.dictionaries(st.text(), st.text(), max_size=3),
)  # fmt: skip
def test_a_preview_is_one_short_printable_line(args, kwargs):
    shown = preview(args, kwargs)
    assert len(shown) <= 512
    assert shown.isprintable()
