import functools
import pickle
from datetime import UTC, datetime

import pytest

from sitq.backends.memory import MemoryBackend
from sitq.codec import Codec
from sitq.decorator import task
from sitq.events import Listeners
from sitq.exceptions import SerializationError, SignatureError, UnknownFunctionError
from sitq.functions import python_version
from sitq.keys import KeyRing
from sitq.options import NO_OPTIONS, make_options
from sitq.record import DAY, SECOND, Failure, Progress, Record, State
from sitq.serialization import CloudpickleSerializer, JSONSerializer, MsgpackSerializer
from sitq.session import Session

ONE = KeyRing([("one", b"1" * 32)])
TWO = KeyRing([("two", b"2" * 32)])
SAME_NAME = KeyRing([("one", b"3" * 32)])
BOTH = KeyRing([("two", b"2" * 32), ("one", b"1" * 32)])

RAN = []


def plain(one, two=2):
    return one + two


@task(name="test_codec.registered")
def registered(one):
    return one


def codec(keys=None, *, serializer=None, trusted=True, **fields) -> Codec:
    return Codec(serializer or CloudpickleSerializer(), keys, trusted=trusted, **fields)


def record(by: Codec, function=plain, args=(1,), **options) -> Record:
    made = by.record("a", function, args, {}, make_options(NO_OPTIONS, options))
    made.token = "t"
    return made


# -- what is in a record -----------------------------------------------------------------------------------


def test_a_function_of_a_module_goes_by_its_name():
    made = record(codec())
    assert made.name == f"{__name__}:plain"
    assert made.python is None
    assert codec().call(made) == (plain, (1,), {})


@pytest.mark.parametrize("function", [lambda one: one + 2, functools.partial(plain, two=2)])
def test_what_has_no_name_goes_by_value_and_names_its_python(function):
    made = record(codec(), function)
    assert made.python == python_version()
    call = codec().call(made)
    assert call[0](*call[1]) == 3


def test_the_options_are_in_the_record():
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    made = record(
        codec(),
        queue="q",
        priority=5,
        delay=1,
        ttl=2,
        deadline=moment,
        timeout=3,
        retry=4,
        result_ttl=5,
        tags=["x"],
    )
    found = (
        made.queue,
        made.priority,
        made.delay,
        made.ttl,
        made.deadline,
        made.timeout,
        made.keep,
        made.tags,
    )
    assert found == (
        "q",
        5,
        SECOND,
        2 * SECOND,
        int(moment.timestamp()) * SECOND,
        3 * SECOND,
        5 * SECOND,
        ("x",),
    )
    assert made.retry["max_retries"] == 4
    assert record(codec(), eta=moment).due == int(moment.timestamp()) * SECOND
    assert record(codec()).keep == DAY


def test_the_queue_of_the_options_comes_before_that_of_the_task_queue():
    made = codec().record("a", plain, (1,), {}, make_options(NO_OPTIONS, {"queue": "mine"}), queue="theirs")
    assert made.queue == "mine"
    assert codec().record("a", plain, (1,), {}, NO_OPTIONS, queue="theirs").queue == "theirs"


def test_the_preview_shows_the_arguments():
    assert "1" in record(codec()).preview


@pytest.mark.parametrize("keys", [None, ONE])
@pytest.mark.parametrize("serializer", [CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer()])
def test_a_result_comes_back(serializer, keys):
    each = codec(keys, serializer=serializer)
    made = record(each, registered)
    made.result = each.result(made, [1, "two"])
    payload, name = each.value(made)
    assert name == serializer.name
    assert each.wrapper.serializer_named(name).loads(payload) == [1, "two"]


def test_what_another_built_in_serializer_wrote_is_read_all_the_same():
    made = record(codec(serializer=JSONSerializer()), registered)
    assert codec().call(made) == (registered.function, (1,), {})


def test_what_a_serializer_wrote_that_is_not_known_here_says_its_name():
    class Mine(JSONSerializer):
        name = "mine"

    made = record(codec(serializer=Mine()), registered)
    with pytest.raises(SerializationError, match="mine"):
        codec().call(made)
    assert codec(serializer=Mine()).call(made)[1] == (1,)


def test_a_payload_or_result_over_the_limit_is_refused_with_its_size():
    small = codec(most=1000)
    with pytest.raises(SerializationError, match=r"payload has 2,\d\d\d bytes"):
        record(small, args=(b"x" * 2000,))
    with pytest.raises(SerializationError, match=r"result has 2,\d\d\d bytes"):
        small.result(record(small), b"x" * 2000)


# -- who vouches for it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("reader", [ONE, BOTH])
def test_what_was_signed_with_a_key_known_here_is_read(reader, trusted):
    assert codec(reader, trusted=trusted).call(record(codec(ONE)))[0] is plain


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("reader", [TWO, SAME_NAME])
def test_what_was_signed_with_another_key_is_not_read_even_in_a_trusted_store(reader, trusted):
    with pytest.raises(SignatureError):
        codec(reader, trusted=trusted).call(record(codec(ONE)))


def test_what_was_signed_is_not_read_without_a_key_unless_the_store_is_trusted():
    with pytest.raises(SignatureError, match="SITQ_SECRET_KEYS"):
        codec(None, trusted=False).call(record(codec(ONE)))
    assert codec(None, trusted=True).call(record(codec(ONE)))[0] is plain


def test_what_is_not_signed_is_not_read_from_a_store_of_others():
    for keys in (None, ONE):
        with pytest.raises(SignatureError):
            codec(keys, trusted=False).call(record(codec()))
    assert codec(None, trusted=True).call(record(codec()))[0] is plain


class Shared(MemoryBackend):
    """A store that others can write to."""

    def __init__(self) -> None:
        super().__init__()
        self.traits = type(self.traits)(durable=True, shared=True, local=False, pushes=True)


def test_a_store_of_others_is_trusted_only_if_the_user_says_so():
    made = record(codec())
    with pytest.raises(SignatureError, match="trust_store"):
        Codec.of(Shared(), None, None, trust_store=False).call(made)
    assert Codec.of(Shared(), None, None, trust_store=True).call(made)[0] is plain
    assert Codec.of(MemoryBackend(), None, None, trust_store=False).call(made)[0] is plain


def test_the_keys_are_those_of_the_environment_unless_others_are_given(monkeypatch):
    monkeypatch.setenv("SITQ_SECRET_KEYS", "env:" + "ab" * 32)
    made = record(Codec.of(MemoryBackend(), None, None, trust_store=False))
    assert b"env" in made.payload
    assert b"one" in record(Codec.of(MemoryBackend(), None, ONE, trust_store=False)).payload


def test_limits_and_namespace_are_those_of_the_backend():
    made = record(Codec.of(MemoryBackend(namespace="other"), None, None, trust_store=False))
    with pytest.raises(SignatureError, match="namespace"):
        codec().call(made)
    with pytest.raises(SerializationError, match="limit of 100"):
        record(Codec.of(MemoryBackend(max_payload=100), None, None, trust_store=False), args=(b"x" * 200,))


@pytest.mark.parametrize("field", ["id", "queue", "name"])
def test_a_payload_that_was_moved_to_another_task_is_not_read(field):
    made = record(codec(ONE))
    setattr(made, field, "another")
    with pytest.raises(SignatureError):
        codec(ONE).call(made)


def test_a_result_is_no_payload_and_a_payload_no_result():
    made = record(codec(ONE), registered)
    made.result = made.payload
    with pytest.raises(SignatureError):
        codec(ONE).value(made)
    made.payload = codec(ONE).result(made, ((1,), {}))
    with pytest.raises(SignatureError):
        codec(ONE).call(made)


def test_every_changed_byte_of_a_signed_payload_is_noticed():
    made = record(codec(ONE))
    whole = made.payload
    for at in range(len(whole)):
        made.payload = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(SerializationError):
            codec(ONE, trusted=True).call(made)


# -- what strangers may say --------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", [JSONSerializer(), MsgpackSerializer()])
def test_plain_data_of_a_stranger_runs_registered_functions_only(serializer):
    theirs = codec(serializer=serializer)
    mine = codec(serializer=serializer, trusted=False)
    assert mine.call(record(theirs, registered)) == (registered.function, (1,), {})
    with pytest.raises(UnknownFunctionError, match="registered"):
        mine.call(record(theirs, plain))


def test_plain_data_that_names_a_module_does_not_import_it():
    made = record(codec(serializer=JSONSerializer()), plain)
    made = forged(made, "antigravity:nothing", b"[[],{}]", "json")
    with pytest.raises(UnknownFunctionError):
        codec(trusted=False).call(made)
    import sys  # noqa: PLC0415

    assert "antigravity" not in sys.modules


def test_a_function_by_value_cannot_be_smuggled_into_plain_data():
    made = record(codec(serializer=JSONSerializer()), registered)
    made.python = python_version()
    with pytest.raises(SerializationError):
        codec(trusted=False).call(made)


class Canary:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return _sing, ()


def _sing():
    RAN.append("the canary sang")


CANARY = pickle.dumps(((Canary(),), {}))


def forged(made: Record, name: str, payload: bytes, codec_name: str, purpose="task") -> Record:
    from sitq.envelope import seal  # noqa: PLC0415

    made.name = name
    made.payload = seal(
        payload,
        purpose=purpose,
        namespace="sitq",
        queue=made.queue,
        task_id=made.id,
        name=name,
        codec=codec_name,
    )
    return made


@pytest.mark.parametrize("reader", [codec(trusted=False), codec(ONE, trusted=False)])
@pytest.mark.parametrize("python", [None, python_version()])
def test_an_untrusted_pickle_executes_nothing(reader, python):
    RAN.clear()
    made = forged(record(codec()), f"{__name__}:plain", CANARY, "cloudpickle")
    made.python = python
    with pytest.raises(SignatureError):
        reader.call(made)
    for raw in (CANARY, b"SITQ" + CANARY, made.payload[:40]):
        made.payload = raw
        with pytest.raises(SerializationError):
            reader.call(made)
    assert RAN == []


def test_a_pickle_that_calls_itself_plain_data_executes_nothing():
    RAN.clear()
    for name in ("json", "msgpack"):
        with pytest.raises(SerializationError):
            codec(trusted=False).call(
                forged(record(codec(), registered), "test_codec.registered", CANARY, name)
            )
    assert RAN == []


async def test_pickles_in_every_stored_field_execute_nothing():
    RAN.clear()
    made = record(codec())
    made.payload = made.result = CANARY
    made.steps = {"step": CANARY}
    made.progress = (Progress(message=CANARY.decode("latin-1")),)
    made.errors = (Failure(kind="raised", type="x", message=CANARY.decode("latin-1"), traceback="x"),)
    made.preview = made.name = CANARY.decode("latin-1")
    made.state, made.finished = State.COMPLETED, 1
    session = Session(Shared(), codec(ONE, trusted=False), Listeners())
    with pytest.raises(SerializationError):
        await session.outcome(made)
    with pytest.raises(SerializationError):
        codec(trusted=False).call(made)
    made.state = State.FAILED
    assert (await session.outcome(made)).status == "failed"
    assert RAN == []


def test_an_untrusted_result_executes_nothing():
    RAN.clear()
    made = record(codec())
    made.result = forged(record(codec()), made.name, pickle.dumps(Canary()), "cloudpickle", "result").payload
    with pytest.raises(SignatureError):
        codec(ONE, trusted=False).value(made)
    with pytest.raises(SignatureError):
        codec(trusted=False).value(made)
    assert RAN == []
