"""Secret arguments: encrypted at rest, hidden wherever a task is shown, plain in the function."""

import dataclasses
import logging
import sys
from typing import Annotated

import pytest

from sitq import (
    CloudpickleSerializer,
    ConfigurationError,
    JSONSerializer,
    KeyRing,
    MsgpackSerializer,
    Secret,
    SerializationError,
    TaskQueue,
    Unique,
    ValidationError,
    current_task,
    task,
)
from sitq.codec import Codec
from sitq.envelope import reseal, seal
from sitq.exceptions import SignatureError, UnknownKeyError
from sitq.parcel import Manifest, unwrap, wrap
from sitq.record import State

ONE = KeyRing([("one", b"1" * 32)])
TWO_THEN_ONE = KeyRing([("two", b"2" * 32), ("one", b"1" * 32)])
TWO = KeyRing([("two", b"2" * 32)])
WORD = "correct-horse-battery"
SERIALIZERS = [CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer()]

Password = Annotated[str, Secret]


@dataclasses.dataclass
class Account:
    user: str
    password: str


@task(name="test_secrets.marked")
async def marked(
    user: str, password: "Password", *, pin: Annotated[int, Secret] | None = None
) -> list[str | int]:
    return [user, password, pin or 0]


@task(name="test_secrets.plain")
def plain(user: str, word: str = "") -> str:
    return word[::-1]


@task(name="test_secrets.typed")
async def typed(account: Annotated[Account, Secret]) -> str:
    return account.password[::-1]


@task(name="test_secrets.failing")
async def failing(password: Password, pin: Annotated[int, Secret] = 417) -> None:
    raise ValueError(f"bad {password!r} and {pin}, not 14175")


@task(name="test_secrets.failing_once")
def failing_once(password: Password) -> int:
    current_task().progress(0.5, f"tried with {password}")
    if current_task().attempt == 1:
        raise ValueError(f"not {password}")
    return len(password)


@task(name="test_secrets.many")
async def many(*words: Annotated[str, Secret], **named: Annotated[str, Secret]) -> list[str]:
    return [*words, *named.values()]


@pytest.fixture(params=SERIALIZERS, ids=lambda one: one.name)
def serializer(request):
    return request.param


@pytest.fixture
async def sealed(backend, serializer):
    async with TaskQueue(backend, serializer, keys=ONE) as queue:
        yield queue


async def value(queue, task_id):
    result = await queue.get_result(task_id, timeout=10)
    assert result is not None
    assert result.status == "success", result.error
    return queue.deserialize_result(result)


async def test_the_function_gets_the_plain_value_and_the_store_never_sees_it(
    sealed, working, stored, serializer
):
    ids = [
        await sealed.enqueue(marked, "ada", WORD, pin=9876543),
        await sealed.enqueue(plain, "ada", Secret(WORD)),
        await sealed.enqueue(plain, "ada", word=Secret(WORD)),
        await sealed.enqueue(typed, Account("ada", WORD)),
        await sealed.enqueue(many, WORD, other=WORD),
    ]
    for each in ids:
        record = await stored(each)
        assert WORD.encode() not in record.payload
        assert b"9876543" not in record.payload
        assert WORD not in record.preview
        assert "9876543" not in record.preview
        assert WORD not in repr(record)
    assert (await stored(ids[1])).preview == "'ada', ***"
    async with working(serializer=serializer, keys=ONE):
        assert await value(sealed, ids[0]) == ["ada", WORD, 9876543]
        assert [await value(sealed, each) for each in ids[1:4]] == [WORD[::-1]] * 3
        assert await value(sealed, ids[4]) == [WORD, WORD]


async def test_recorded_errors_tracebacks_and_logs_hide_it(sealed, working, stored, serializer, caplog):
    caplog.set_level(logging.DEBUG)
    task_id = await sealed.enqueue(failing, WORD)
    async with working(serializer=serializer, keys=ONE):
        result = await sealed.get_result(task_id, timeout=10)
    assert result.status == "failed"
    failure = (await stored(task_id)).errors[-1]
    for text in (
        result.error,
        result.traceback,
        failure.message,
        failure.traceback,
        caplog.text,
        repr(result),
    ):
        assert WORD not in text
    assert "bad '***'" in failure.message
    assert "14175" in failure.message


async def test_in_a_retry_it_is_plain_for_the_function_and_hidden_for_all_others(
    sealed, working, serializer, stored
):
    async with working(serializer=serializer, keys=ONE):
        handle = await sealed.options(retry=[0.0]).submit(failing_once, WORD)
        assert await handle.result(10) == len(WORD)
    record, info = await stored(handle.id), await handle.info()
    assert (info.failures, info.progress.message) == (1, "tried with ***")
    assert [error.message for error in record.errors] == ["not ***"]
    assert WORD not in repr(record) + repr(info)
    assert WORD.encode() not in record.payload


async def test_a_short_secret_is_hidden_where_it_stands_alone(sealed, working, stored, serializer):
    task_id = await sealed.enqueue(failing, WORD, 417)
    async with working(serializer=serializer, keys=ONE):
        await sealed.get_result(task_id, timeout=10)
    assert (await stored(task_id)).errors[-1].message == "bad '***' and ***, not 14175"


async def test_without_a_key_nothing_is_enqueued(backend, serializer):
    async with TaskQueue(backend, serializer) as queue:
        for enqueue in (
            lambda: queue.enqueue(marked, "ada", WORD),
            lambda: queue.enqueue(plain, Secret(WORD)),
        ):
            with pytest.raises(ConfigurationError, match="SITQ_SECRET_KEYS") as refused:
                await enqueue()
            assert WORD not in str(refused.value)
        assert await queue.stats() == {}


async def test_without_the_library_the_error_names_the_extra(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    async with TaskQueue(backend, keys=ONE) as queue:
        with pytest.raises(ConfigurationError, match=r"pip install 'sitq-tasks\[crypto\]'"):
            await queue.enqueue(marked, "ada", WORD)


async def test_a_worker_without_the_key_hands_the_task_back_for_another_one(
    sealed, working, stored, eventually, serializer
):
    task_id = await sealed.enqueue(marked, "ada", WORD)
    async with working(serializer=serializer, keys=TWO):

        async def handed_back():
            record = await stored(task_id)
            return record.attempt == 1 and record.state is State.QUEUED

        await eventually(handed_back)
    assert (await stored(task_id)).failures == 0


async def test_after_a_rotation_old_secrets_are_read_and_new_ones_use_the_new_key(
    backend, sealed, working, stored, serializer
):
    before = await sealed.enqueue(marked, "ada", WORD)
    async with TaskQueue(backend, serializer, keys=TWO_THEN_ONE) as queue:
        after = await queue.enqueue(marked, "ada", WORD)
        async with working(serializer=serializer, keys=TWO_THEN_ONE):
            assert await value(queue, before) == ["ada", WORD, 0]
            assert await value(queue, after) == ["ada", WORD, 0]
    assert b"two" in (await stored(after)).payload
    assert b"one" not in (await stored(after)).payload


async def test_a_retry_under_a_new_id_has_the_secret_too(sealed, working, stored, serializer):
    task_id = await sealed.enqueue(failing, WORD)
    async with working(serializer=serializer, keys=ONE):
        await sealed.get_result(task_id, timeout=10)
        again = await sealed.retry(task_id)
        result = await sealed.get_result(again, timeout=10)
    assert again != task_id
    assert (await stored(again)).errors[-1].message.startswith("bad '***'")
    assert result.status == "failed"
    assert (await stored(again)).preview == (await stored(task_id)).preview
    assert WORD.encode() not in (await stored(again)).payload


def record(serializer, task_id="a", keys=ONE):
    made = Codec(serializer, keys).record(task_id, marked, ("ada", WORD), {})
    made.token = "t"
    return made


def test_a_ciphertext_is_bound_to_its_task_and_encrypted_anew_for_a_copy(serializer):
    made, other = record(serializer), record(serializer, "b")
    same = Codec(serializer, ONE).record("a", marked, ("ada", WORD), {})
    assert made.payload != same.payload
    copy = reseal(
        made.payload,
        purpose="task",
        namespace="sitq",
        queue="default",
        task_id="a",
        names=(made.name,),
        keys=TWO_THEN_ONE,
        to_task_id="b",
    )
    other.payload = copy
    assert Codec(serializer, TWO).call(other)[1] == ("ada", WORD)
    other.payload = made.payload
    with pytest.raises(SignatureError):
        Codec(serializer, ONE).call(other)


def test_a_moved_or_changed_ciphertext_cannot_be_opened(serializer, monkeypatch):
    """Even by somebody who can sign: as the check of the envelope were not there."""
    codec = Codec(serializer, ONE)
    made = codec.record("a", many, (WORD, "x" * len(WORD)), {})
    opened = codec.wrapper.open(made.payload, "task", made)
    manifest, _ = unwrap(opened.payload)
    (first, one), (second, two) = manifest.secrets
    for task_id, place, data in (
        ("a", first, two),
        ("b", first, one),
        ("a", second, one),
        ("a", first, one[:-1]),
    ):
        from sitq.sealing import decrypt  # noqa: PLC0415

        with pytest.raises(SignatureError, match="cannot be opened"):
            decrypt(data, ONE, "one", namespace="sitq", task_id=task_id, place=place)
    with pytest.raises(UnknownKeyError):
        decrypt(one, TWO, "one", namespace="sitq", task_id="a", place=first)


def test_a_ciphertext_in_the_place_of_another_argument_is_refused(serializer):
    """By a writer who has the key that signs, as the envelope is valid; in its own place each one opens."""
    codec = Codec(serializer, ONE)
    made = codec.record("a", many, (WORD, "another-one"), {"third": "x"})
    manifest, body = unwrap(codec.wrapper.open(made.payload, "task", made).payload)
    (p1, c1), (p2, c2), (p3, c3) = manifest.secrets

    def sealed_with(*secrets):
        made.payload = seal(
            wrap(Manifest(manifest.key_id, secrets), body),
            purpose="task",
            namespace="sitq",
            queue="default",
            task_id="a",
            name=made.name,
            codec=serializer.name,
            keys=ONE,
            limit=1 << 20,
            parcel=True,
        )
        return codec.call(made)

    assert sealed_with((p1, c1), (p2, c2), (p3, c3))[1:] == ((WORD, "another-one"), {"third": "x"})
    for moved in (
        ((p1, c2), (p2, c1), (p3, c3)),
        ((p1, c1), (p2, c1), (p3, c3)),
        ((p1, c1), (p2, c2), (p3, c1)),
        ((p1, c3), (p2, c2), (p3, c3)),
        ((p1, c1), (p2, c2), ("=fourth", c3)),
    ):
        with pytest.raises(SignatureError, match="cannot be opened"):
            sealed_with(*moved)


def test_a_secret_inside_another_argument_is_refused(serializer):
    for args in (([Secret(WORD)],), ({"password": Secret(WORD)},)):
        with pytest.raises(SerializationError) as refused:
            Codec(serializer, ONE).record("a", plain, args, {})
        assert WORD not in str(refused.value)


async def test_the_value_of_another_task_inside_of_a_secret_is_refused_with_the_remedy(sealed):
    handle = await sealed.submit(plain, "x")
    with pytest.raises(SerializationError, match="the value of another task is an argument of its own"):
        await sealed.enqueue(plain, "user", Secret([handle]))


@task(name="test_secrets.login_again")
def login_again(user: str, word: object) -> object:
    return user, word


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        (("user", Secret([Secret(WORD)])), {}, "argument 2 ('word')"),
        (("user",), {"word": Secret([Secret(WORD)])}, "keyword argument 'word'"),
    ],
)
def test_a_secret_inside_of_a_secret_is_refused_with_its_name_and_the_remedy(serializer, args, kwargs, named):
    with pytest.raises(SerializationError) as refused:
        Codec(serializer, ONE).record("a", login_again, args, kwargs)
    assert str(refused.value).startswith(f"{named}, which is secret, of type list, cannot be serialized by")
    assert "with no Secret(…) inside of it" in str(refused.value)
    assert WORD not in str(refused.value)


def test_what_does_not_fit_or_cannot_be_serialized_is_not_quoted(serializer):
    codec = Codec(serializer, ONE)
    if serializer.name != "cloudpickle":
        with pytest.raises(ValidationError, match="it is secret, so no more is said") as refused:
            codec.record("a", typed, ({"user": WORD},), {})
        assert WORD not in str(refused.value)
        assert refused.value.__cause__ is None
    with pytest.raises((SerializationError, ValidationError)) as refused:
        codec.record("a", plain, (Secret(each for each in [WORD]),), {})
    assert WORD not in str(refused.value)


def test_it_is_shown_as_stars_and_never_pickled():
    secret = Secret(WORD)
    assert f"{secret} {secret!r}" == "Secret(***) Secret(***)"
    assert secret.reveal() == WORD
    with pytest.raises(TypeError, match="an argument of its own"):
        secret.__reduce_ex__(4)


async def test_a_secret_that_replaced_another_one_is_read_and_hidden_too(sealed, working, stored, serializer):
    debounced = sealed.options(unique=Unique("key", clash="replace"))
    task_id = await debounced.enqueue(failing, "something else")
    assert await debounced.enqueue(failing, WORD) == task_id
    async with working(serializer=serializer, keys=ONE):
        await sealed.get_result(task_id, timeout=10)
    failure = (await stored(task_id)).errors[-1]
    assert failure.message.startswith("bad '***'")
    assert WORD not in failure.traceback


async def test_a_unique_key_of_all_arguments_is_refused(sealed):
    with pytest.raises(ValidationError, match="unique"):
        await sealed.options(unique=True).enqueue(marked, "ada", WORD)


async def test_what_is_remembered_of_secrets_is_forgotten_when_the_attempt_ends(sealed, serializer, backend):
    from sitq import Worker  # noqa: PLC0415

    task_id = await sealed.enqueue(marked, "ada", WORD)
    worker = Worker(backend, serializer, keys=ONE)
    async with worker:
        await sealed.get_result(task_id, timeout=10)
        hidden = worker._shift._contents.hidden
    assert hidden == {}
