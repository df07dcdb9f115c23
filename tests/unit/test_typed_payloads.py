"""Arguments and results by the types in the signature, through the serializers of plain data."""

from __future__ import annotations

import dataclasses
import enum
import functools
import ipaddress
import pathlib
import typing
import uuid
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from sitq.codec import Codec
from sitq.exceptions import SerializationError, ValidationError
from sitq.functions import register
from sitq.serialization import CloudpickleSerializer, JSONSerializer, MsgpackSerializer

if typing.TYPE_CHECKING:
    from nowhere import Unknown

T = TypeVar("T")


class Model(pydantic.BaseModel):
    id: uuid.UUID
    name: str
    tags: set[str] = set()
    when: datetime | None = None
    raw: str = pydantic.Field(default="", alias="rawText")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    when: datetime
    cost: Decimal


class Hidden(pydantic.BaseModel):
    password: pydantic.SecretStr


class Base(pydantic.BaseModel):
    one: int


class Derived(Base):
    two: int


@dataclasses.dataclass
class Point:
    x: int
    y: int
    label: str | None = None


@dataclasses.dataclass(frozen=True)
class Box(Generic[T]):
    content: T
    paths: tuple[pathlib.PurePosixPath, ...] = ()


class Struct(msgspec.Struct):
    at: datetime
    points: list[Point] = []


@attrs.define
class Attrs:
    value: int
    inner: Point | None = None


class Pair(NamedTuple):
    left: int
    right: date


class Typed(TypedDict):
    name: str
    when: date


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


MODEL = Model(
    id=uuid.UUID(int=5), name="a", tags={"x", "y"}, when=datetime(2030, 1, 2, tzinfo=UTC), rawText="r"
)
NOW = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))

VALUES = [
    (Model, MODEL),
    (Strict, Strict(when=NOW, cost=Decimal("1.10"))),
    (list[Model], [MODEL, MODEL]),
    (dict[str, Model], {"a": MODEL}),
    (Model | None, MODEL),
    (Model | None, None),
    (Point, Point(1, 2)),
    (dict[str, Point], {"a": Point(1, 2, "x")}),
    (Box[Model], Box(MODEL, (pathlib.PurePosixPath("/a"),))),
    (Struct, Struct(NOW, [Point(1, 2)])),
    (Attrs, Attrs(1, Point(2, 3))),
    (Pair, Pair(1, date(2030, 1, 1))),
    (Typed, {"name": "a", "when": date(2030, 1, 1)}),
    (datetime, NOW),
    (datetime, datetime(2030, 1, 1)),  # noqa: DTZ001 - a naive one stays naive
    (date, date(2030, 1, 1)),
    (time, time(1, 2, 3)),
    (timedelta, timedelta(days=1, seconds=2, microseconds=3)),
    (uuid.UUID, uuid.UUID(int=7)),
    (dict[str, uuid.UUID], {"a": uuid.UUID(int=7)}),
    (dict[uuid.UUID, int], {uuid.UUID(int=7): 1}),
    (dict[int, str], {1: "a"}),
    (dict[Color, date], {Color.RED: date(2030, 1, 1)}),
    (Color, Color.BLUE),
    (Level, Level.LOW),
    (typing.Literal["a", 3], "a"),
    (Decimal, Decimal("1.10")),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (tuple[date, ...], (date(2030, 1, 1),)),
    (pathlib.Path, pathlib.Path("/tmp/a")),
    (pathlib.PurePosixPath, pathlib.PurePosixPath("/tmp/a")),
    (ipaddress.IPv4Address, ipaddress.IPv4Address("127.0.0.1")),
    (bytes, b"\x00\xff"),
    (float, 1.5),
    (int | str, "a"),
    (int | date, date(2030, 1, 1)),
    (Model | Point, MODEL),
    (list[Model | int], [MODEL, 3]),
    (dict[str, Point | date | None], {"a": Point(1, 2), "b": None}),
    (Color | int, Color.RED),
    (Any, {"a": [1, None]}),
    (object, [1]),
    (list, [1, "a"]),
    (typing.Sequence[Point], [Point(1, 2)]),
    (typing.Mapping[str, date], {"a": date(2030, 1, 1)}),
    (typing.Iterable[int], [1, 2]),
    (typing.Annotated[int, "of no concern"], 3),
    (typing.NewType("UserId", int), 3),
]

SERIALIZERS = [JSONSerializer(), MsgpackSerializer()]


def by(serializer) -> Codec:
    return Codec(serializer)


def there_and_back(serializer, function, *args, **kwargs):
    codec = by(serializer)
    called, back, named = codec.call(codec.record("a", function, args, kwargs))
    assert called is function
    return back, named


def made(hint, name=None):
    def function(value):
        return value

    function.__annotations__ = {"value": hint, "return": hint}
    return register(function, name=name or f"typed-{uuid.uuid4()}")


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=lambda one: one.name)
@pytest.mark.parametrize(("hint", "value"), VALUES, ids=[str(hint)[-40:] for hint, _ in VALUES])
def test_a_value_comes_back_as_its_type(serializer, hint, value):
    (back,), _ = there_and_back(serializer, made(hint), value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=lambda one: one.name)
@pytest.mark.parametrize(("hint", "value"), VALUES, ids=[str(hint)[-40:] for hint, _ in VALUES])
def test_a_result_comes_back_as_its_type(serializer, hint, value):
    codec, function = by(serializer), made(hint)
    record = codec.record("a", function, (value,), {})
    record.result = codec.result(record, value)
    back = codec.loads_result(*codec.value(record), record.name)
    assert back == value
    assert type(back) is type(value)


MISFITS = [
    (int, "3", "Expected `int`, got `str`"),
    (Point, {"x": 1}, "missing required field `y`"),
    (Model, {"name": "a"}, "id"),
    (list[date], ["soon"], "Invalid RFC3339"),
    (Color, "green", "Invalid enum value"),
    (str, uuid.UUID(int=1), "is of type UUID and would come back as str"),
    (Any, {"a": NOW}, "is of type datetime"),
    (list, [NOW], "datetime and would come back as str"),
    (dict[str, Any], {"a": {"b": Decimal(1)}}, r"'b'\] is of type Decimal and would come back as str"),
    (Base, Derived(one=1, two=2), "is of type Derived and would come back as Base"),
    (str | pathlib.Path, pathlib.PurePosixPath("/a"), "PurePosixPath and would come back as str"),
    (Hidden, Hidden(password="hunter2"), "SecretStr in a model is written as stars"),
    (list[Hidden], [Hidden(password="hunter2")], "SecretStr in a model"),
    (typing.Callable[[], int], made, "no way to plain data"),
    (tuple[int, str], (1, "a", 2), "length"),
]


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=lambda one: one.name)
@pytest.mark.parametrize(("hint", "value", "why"), MISFITS, ids=[str(hint)[-40:] for hint, _, _ in MISFITS])
def test_what_does_not_fit_is_refused_when_it_is_enqueued_and_named(serializer, hint, value, why):
    with pytest.raises((ValidationError, SerializationError), match=why) as refused:
        by(serializer).record("a", made(hint), (value,), {})
    assert "argument 1 ('value')" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def every(
    first: Point,
    /,
    second: date = date(2030, 1, 1),
    *more: uuid.UUID,
    only: Model,
    plain=None,
    **others: Decimal,
) -> dict[str, Point]:
    """Everything that a signature may have, with its annotations as text."""
    return {"a": first}


register(every, name="every")


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=lambda one: one.name)
def test_every_kind_of_parameter_has_its_type(serializer):
    args = (Point(1, 2), date(2031, 1, 1), uuid.UUID(int=1), uuid.UUID(int=2))
    kwargs = {"only": MODEL, "plain": [1], "a": Decimal(1), "b": Decimal(2)}
    assert there_and_back(serializer, every, *args, **kwargs) == (args, kwargs)
    assert there_and_back(serializer, every, Point(1, 2), only=MODEL, second=date(2031, 1, 1)) == (
        (Point(1, 2),),
        {"only": MODEL, "second": date(2031, 1, 1)},
    )
    with pytest.raises(ValidationError, match=r"argument 4 \('more'\) of every\(\)"):
        there_and_back(serializer, every, Point(1, 2), date(2031, 1, 1), uuid.UUID(int=1), "x", only=MODEL)
    with pytest.raises(ValidationError, match=r"keyword argument 'b' of every\(\)"):
        there_and_back(serializer, every, Point(1, 2), only=MODEL, b="x")


class Service:
    @staticmethod
    def static(point: Point) -> Point:
        return point

    def method(self, point: Point, *, at: date) -> None: ...


def test_methods_have_types_too():
    static = register(Service.static, name="typed-static")
    assert there_and_back(JSONSerializer(), static, Point(1, 2)) == ((Point(1, 2),), {})
    codec = by(JSONSerializer())
    bound = register(Service.method, name="typed-method")
    assert codec.call(codec.record("a", bound, ({}, Point(1, 2)), {"at": NOW.date()}))[2] == {
        "at": NOW.date()
    }


def test_a_wrapped_function_keeps_its_types():
    def inner(point: Point) -> Point:
        return point

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    register(outer, name="typed-wrapped")
    assert there_and_back(JSONSerializer(), outer, Point(1, 2)) == ((Point(1, 2),), {})


def test_local_names_in_annotations_are_found_where_the_function_uses_them():
    @dataclasses.dataclass
    class Local:
        x: int

    def function(value: Local):
        return Local, value

    register(function, name="typed-local")
    assert there_and_back(JSONSerializer(), function, Local(1)) == ((Local(1),), {})


def test_an_annotation_that_cannot_be_resolved_leaves_its_argument_plain():
    def function(value: Unknown, point: Point):
        return value

    register(function, name="typed-unknown")
    assert there_and_back(JSONSerializer(), function, [1], Point(1, 2)) == (([1], Point(1, 2)), {})
    with pytest.raises(SerializationError, match="argument 1"):
        there_and_back(JSONSerializer(), function, Point(1, 2), Point(1, 2))


class Options(TypedDict, total=False):
    when: date
    count: typing.Required[int]


def test_unpacked_keywords_have_the_types_of_their_dictionary():
    def function(**options: typing.Unpack[Options]):
        return options

    register(function, name="typed-unpack")
    assert there_and_back(JSONSerializer(), function, count=1, when=NOW.date())[1] == {
        "count": 1,
        "when": NOW.date(),
    }
    with pytest.raises(ValidationError, match="keyword argument 'count'"):
        there_and_back(JSONSerializer(), function, count="x")


def test_subclasses_of_built_in_types_come_back_as_these():
    function = made(dict[str, int])
    assert there_and_back(JSONSerializer(), function, OrderedDict(a=1)) == (({"a": 1},), {})
    assert there_and_back(JSONSerializer(), function, defaultdict(int, a=1)) == (({"a": 1},), {})
    assert there_and_back(JSONSerializer(), made(float), 3) == ((3.0,), {})


def test_what_does_not_fit_at_the_worker_is_an_error_that_names_the_argument():
    codec = by(JSONSerializer())
    before = made(str, "typed-changed")
    record = codec.record("a", before, ("x",), {})
    before.__annotations__["value"] = int
    other = made(int)
    moved = by(JSONSerializer()).record("a", other, (3,), {})
    moved.name, moved.payload = record.name, record.payload
    register_again = by(JSONSerializer())
    register_again._resolved[record.name, True] = other
    from sitq import functions  # noqa: PLC0415

    functions._functions[record.name] = other
    with pytest.raises(
        SerializationError, match=r"argument 1 \('value'\) of .* does not fit its annotation int"
    ):
        register_again.call(moved)


def test_a_result_that_is_not_what_the_function_says_is_stored_and_read_as_plain_data():
    codec, function = by(JSONSerializer()), made(int)
    record = codec.record("a", function, (1,), {})
    record.result = codec.result(record, {"a": "b"})
    assert codec.loads_result(*codec.value(record), record.name) == {"a": "b"}
    with pytest.raises(SerializationError):
        codec.result(record, {"a": NOW})


def test_a_result_of_an_unknown_function_is_plain_data():
    codec, function = by(JSONSerializer()), made(date)
    record = codec.record("a", function, (NOW.date(),), {})
    record.result = codec.result(record, NOW.date())
    assert codec.loads_result(*codec.value(record), "nowhere:at_all") == "2030-01-02"


def test_pickles_take_values_as_they_are():
    codec = by(CloudpickleSerializer())
    (back,) = codec.call(codec.record("a", made(int), ("not an int",), {}))[1]
    assert back == "not an int"


def test_hints_are_looked_at_once_for_each_function(monkeypatch):
    from sitq import shape  # noqa: PLC0415

    looks = []
    original = shape._Hints
    monkeypatch.setattr(shape, "_Hints", lambda function: looks.append(function) or original(function))

    def function(value: Point) -> Point:  # no other test has used this piece of code
        return value

    register(function, name=f"typed-{uuid.uuid4()}")
    for _ in range(5):
        there_and_back(JSONSerializer(), function, Point(1, 2))
    assert looks == [function]


def test_closures_of_one_piece_of_code_share_what_is_known(monkeypatch):
    from sitq import shape  # noqa: PLC0415

    looks = []
    original = shape._Hints
    monkeypatch.setattr(shape, "_Hints", lambda function: looks.append(function) or original(function))

    def closure(number):
        def inner(value: int) -> int:
            return value + number

        return inner

    codec = by(CloudpickleSerializer())
    for number in range(5):
        codec.record("a", closure(number), (1,), {})
    assert len(looks) == 1


def test_a_model_in_an_untyped_place_is_refused_with_a_remedy():
    with pytest.raises(SerializationError, match=r"argument 1 \('value'\).*Point"):
        by(JSONSerializer()).record("a", made(Any), (Point(1, 2),), {})
