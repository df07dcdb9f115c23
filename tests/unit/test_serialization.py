import contextlib
import dataclasses
import enum
import functools
import math
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict, namedtuple
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitq.exceptions import SerializationError
from sitq.serialization import (
    MAX_PAYLOAD,
    Call,
    CloudpickleSerializer,
    JSONSerializer,
    MsgpackSerializer,
    carries_code,
    check_size,
    codec_name,
    dumps_call,
    loads_call,
)

CLOUDPICKLE, JSON, MSGPACK = CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer()
EVERY = [CLOUDPICKLE, JSON, MSGPACK]
Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped kind is a case of its own


class Colour(enum.StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Order:
    number: int


class Rude:
    """Raises whatever it is told to when it is pickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


class RudeOnLoad:
    def __reduce__(self):
        return _raise, ()


def _raise():
    raise SystemExit(3)


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def nested(depth, kind=list):
    value = kind()
    for _ in range(depth - 1):
        value = [value] if kind is list else {"a": value}
    return value


def one_argument(first, second=None):
    return first, second


text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=20,
)


# --- values ---


@pytest.mark.parametrize("serializer", EVERY, ids=codec_name)
@settings(max_examples=50)
@given(value=plain)
def test_plain_data_comes_back_as_it_was(serializer, value):
    assert serializer.loads(serializer.dumps(value)) == value


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_cloudpickle_keeps_every_builtin_type(value):
    again = CLOUDPICKLE.loads(CLOUDPICKLE.dumps(value))
    assert again == value
    assert repr(again) == repr(value)


def test_big_and_deep_plain_data_is_pickled_too():
    for value in (
        list(range(100_000)),
        nested(50),
        {"a" * 10: [nested(5, dict)] * 40},
        10**3000,
        ("\ud800",),
    ):
        assert CLOUDPICKLE.loads(CLOUDPICKLE.dumps(value)) == value


@pytest.mark.parametrize("serializer", EVERY, ids=codec_name)
def test_tuples_come_back_as_sequences(serializer):
    assert list(serializer.loads(serializer.dumps((1, (2, 3))))[:1]) == [1]
    assert list(serializer.loads(serializer.dumps(Point(1, 2)))) == [1, 2]


@pytest.mark.parametrize("serializer", [JSON, MSGPACK], ids=codec_name)
def test_enumerations_and_kinds_of_dictionaries_come_back_as_plain_data(serializer):
    value = {"a": Colour.RED, "b": OrderedDict(x=1), "c": defaultdict(list, y=[2])}
    assert serializer.loads(serializer.dumps(value)) == {"a": "red", "b": {"x": 1}, "c": {"y": [2]}}


def test_functions_and_classes_that_cannot_be_imported_are_pickled_by_value():
    offset = 10
    assert CLOUDPICKLE.loads(CLOUDPICKLE.dumps(lambda x: x + offset))(1) == 11

    class Local:
        value = 5

    assert CLOUDPICKLE.loads(CLOUDPICKLE.dumps([Local()]))[0].value == 5


def test_what_belongs_to_main_is_never_stored_by_reference():
    script = (
        "import sys; from sitq.serialization import CloudpickleSerializer as S\n"
        "class Mine(str): pass\n"
        "def f(): return 41\n"
        "sys.stdout.buffer.write(S().dumps(((Mine('x'), f), {'k': [Mine('y')]})))"
    )
    data = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout
    (text, function), kwargs = CLOUDPICKLE.loads(data)
    assert (text, function(), kwargs) == ("x", 41, {"k": ["y"]})


# --- refusals ---


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "is nan, which JSON does not have"),
        (-math.inf, "is -inf"),
        ({"a": [1, {"b": math.inf}]}, r"value\['a'\]\[1\]\['b'\] is inf"),
        (b"x", "is of type bytes"),
        ({1: 2}, "has the key 1 of type int; use text"),
        ({None: 1}, "has the key None"),
        ({1, 2}, "is of type set"),
        (datetime.now(UTC), "is of type datetime; convert it"),
        (Order(1), "is of type Order"),
        (Text("x"), "is of type Text"),
        (object(), "is of type object"),
        ("\ud800", "surrogates not allowed"),
        (nested(65), "nested more than 64 levels"),
    ],
)
def test_json_refuses_what_it_would_change(value, reason):
    with pytest.raises(SerializationError, match=reason):
        JSON.dumps(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1, 2}, "is of type set"),
        (2**64, "msgpack cannot serialize"),
        (-(2**63) - 1, "msgpack cannot serialize"),
        ({(1, 2): 3}, "has the key"),
        ({1.5: 3}, "has the key"),
        (Order(1), "is of type Order"),
        ("\udfff", "surrogates"),
        (nested(65, dict), "nested more than 64 levels"),
    ],
)
def test_msgpack_refuses_what_it_would_change(value, reason):
    with pytest.raises(SerializationError, match=reason):
        MSGPACK.dumps(value)


def test_msgpack_takes_bytes_keys_and_infinity():
    value = {"b": b"\x00", 1: [math.inf], b"k": None}
    assert MSGPACK.loads(MSGPACK.dumps(value)) == value
    assert math.isnan(MSGPACK.loads(MSGPACK.dumps(math.nan)))


def test_json_takes_64_levels_and_long_numbers():
    assert JSON.loads(JSON.dumps(nested(64))) == nested(64)
    assert JSON.loads(JSON.dumps(2**200)) == 2**200


@pytest.mark.parametrize("serializer", EVERY, ids=codec_name)
def test_endless_nesting_is_an_error_and_no_crash(serializer):
    for value in (nested(100_000), nested(100_000, dict)):
        with pytest.raises(SerializationError):
            serializer.dumps(value)
    circle = []
    circle.append(circle)
    if serializer is not CLOUDPICKLE:
        with pytest.raises(SerializationError):
            serializer.dumps(circle)


def test_endless_nesting_in_stored_bytes_is_an_error_and_no_crash():
    for serializer, data in ((JSON, b"[" * 200_000), (MSGPACK, b"\x91" * 200_000)):
        with pytest.raises(SerializationError):
            serializer.loads(data)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        SystemExit(1),
        GeneratorExit(),
        Unprintable(),
        MemoryError(),
    ],
)
def test_whatever_an_object_raises_when_pickled_becomes_a_serialization_error(error):
    with pytest.raises(SerializationError, match=type(error).__name__) as caught:
        CLOUDPICKLE.dumps(Rude(error))
    assert caught.value.cause is error


def test_a_recursion_error_of_an_object_is_named():
    with pytest.raises(SerializationError, match="recursion"):
        CLOUDPICKLE.dumps(Rude(RecursionError("deep")))


def test_an_interrupt_from_the_keyboard_gets_through():
    with pytest.raises(KeyboardInterrupt):
        CLOUDPICKLE.dumps(Rude(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        dumps_call(CLOUDPICKLE, (Rude(KeyboardInterrupt()),), {})


def test_whatever_an_object_raises_when_loaded_becomes_a_serialization_error():
    with pytest.raises(SerializationError, match="cannot load the bytes: SystemExit: 3"):
        CLOUDPICKLE.loads(CLOUDPICKLE.dumps(RudeOnLoad()))


@pytest.mark.parametrize("serializer", EVERY, ids=codec_name)
@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xfe garbage", b"cnowhere\nmissing\n."])
def test_damaged_bytes_are_a_serialization_error(serializer, data):
    with pytest.raises(SerializationError):
        loads_call(serializer, data)


@pytest.mark.parametrize("serializer", [JSON, MSGPACK], ids=codec_name)
@given(data=st.binary(max_size=40))
def test_any_bytes_are_a_call_or_a_serialization_error(serializer, data):
    with contextlib.suppress(SerializationError):
        assert isinstance(loads_call(serializer, data), Call)


# --- calls ---


@pytest.mark.parametrize("serializer", EVERY, ids=codec_name)
def test_a_call_comes_back_with_a_tuple_and_a_dictionary(serializer):
    call = loads_call(serializer, dumps_call(serializer, ("a.png", [1]), {"width": 100}))
    assert call == Call(None, ("a.png", [1]), {"width": 100})
    assert type(call.args) is tuple
    assert loads_call(serializer, dumps_call(serializer, [], {})) == Call(None, (), {})


def test_a_function_travels_by_value_with_its_call():
    call = loads_call(CLOUDPICKLE, dumps_call(CLOUDPICKLE, (2,), {"y": 3}, lambda x, y: x * y))
    assert call.function(*call.args, **call.kwargs) == 6


@pytest.mark.parametrize("serializer", [JSON, MSGPACK], ids=codec_name)
def test_plain_serializers_carry_no_functions(serializer):
    with pytest.raises(
        SerializationError, match=rf"<lambda> .* {serializer.name} cannot do; .*@task.*module"
    ):
        dumps_call(serializer, (), {}, lambda: None)
    with pytest.raises(SerializationError, match="only be sent by value"):
        dumps_call(serializer, (), {}, functools.partial(print))


def test_a_stored_call_cannot_smuggle_a_function_into_a_plain_serializer():
    with pytest.raises(SerializationError, match="is no call"):
        loads_call(JSON, JSON.dumps(["os:system", ["ls"], {}]))


def test_the_argument_at_fault_is_named():
    with pytest.raises(SerializationError) as caught:
        dumps_call(CLOUDPICKLE, (1, threading.Lock()), {}, target=one_argument)
    assert str(caught.value) == (
        "argument 2 ('second') of type lock cannot be serialized by cloudpickle: "
        "TypeError: cannot pickle '_thread.lock' object"
    )
    assert isinstance(caught.value.cause, TypeError)


def test_the_keyword_argument_at_fault_is_named():
    with pytest.raises(SerializationError, match=r"keyword argument 'when' of type datetime .* by json"):
        dumps_call(JSON, ("x",), {"a": 1, "when": datetime.now(UTC)})


def test_the_function_at_fault_is_named():
    lock = threading.Lock()
    with pytest.raises(
        SerializationError, match=r"the function .*<lambda> of type function cannot be serialized"
    ):
        dumps_call(CLOUDPICKLE, (1,), {}, lambda x: (x, lock))


def test_an_argument_without_a_parameter_is_counted_only():
    with pytest.raises(SerializationError, match="argument 3 of type lock"):
        dumps_call(CLOUDPICKLE, (1, 2, threading.Lock()), {}, target=one_argument)
    with pytest.raises(SerializationError, match="argument 1 of type lock"):
        dumps_call(CLOUDPICKLE, (threading.Lock(),), {}, target=dict.fromkeys.__call__)


def test_a_coroutine_as_an_argument_gets_a_hint():
    async def make():
        """Never runs here."""

    coroutine = make()
    with pytest.raises(SerializationError, match="await it first"):
        dumps_call(CLOUDPICKLE, (coroutine,), {})
    coroutine.close()
    with pytest.raises(SerializationError, match="pass list"):
        dumps_call(CLOUDPICKLE, ((x for x in ()),), {})


def test_a_part_that_fails_only_together_with_others_still_gives_an_error():
    class Moody:
        name = "moody"

        def dumps(self, value):
            if isinstance(value, tuple):
                raise SystemExit(1)
            return b""

        def loads(self, data):
            raise LookupError("nothing there")

    with pytest.raises(
        SerializationError, match=r"the call cannot be serialized: moody cannot .* SystemExit"
    ):
        dumps_call(Moody(), (1,), {})
    with pytest.raises(SerializationError, match="moody cannot load the bytes: LookupError: nothing there"):
        loads_call(Moody(), b"")


@pytest.mark.parametrize(
    "value",
    [None, 5, (), ((),), ((), {}, {}, {}), ("ab", {}), ((), []), ((), {1: 2}), (None, (), {}), ("x", (), {})],
)
def test_what_is_no_call_is_refused(value):
    with pytest.raises(SerializationError, match="the payload is no call: cloudpickle read"):
        loads_call(CLOUDPICKLE, pickle.dumps(value))


# --- serializers of others ---


class Base64ish:
    def dumps(self, value):
        return pickle.dumps(value).hex()

    def loads(self, data):
        return pickle.loads(bytes.fromhex(data.decode()))


def test_a_serializer_without_a_name_is_named_after_its_class():
    assert codec_name(Base64ish()) == f"{__name__}.Base64ish"
    assert [codec_name(each) for each in EVERY] == ["cloudpickle", "json", "msgpack"]


def test_a_serializer_carries_code_unless_it_says_otherwise():
    assert [carries_code(each) for each in (*EVERY, Base64ish())] == [True, False, False, True]


def test_a_serializer_that_returns_no_bytes_is_told_so():
    with pytest.raises(SerializationError, match=r"Base64ish returned str; its dumps\(\) must return bytes"):
        dumps_call(Base64ish(), (), {})


# --- size ---


def test_bytes_up_to_the_limit_are_passed_through():
    data = b"x" * MAX_PAYLOAD
    assert check_size(data) is data
    assert MAX_PAYLOAD == 1_048_576


def test_bytes_over_the_limit_are_refused_with_figures_and_a_remedy():
    with pytest.raises(SerializationError, match=r"has 1,048,577 bytes, .* limit of 1,048,576; .*spill="):
        check_size(b"x" * (MAX_PAYLOAD + 1), what="result")
    with pytest.raises(SerializationError, match="limit of 3"):
        check_size(b"four", 3)
