"""What is written for the server in binary is what it reads, and the other way round."""

import psycopg
import pytest
from psycopg.pq import ExecStatus, Format

from sitq.backends.postgres import binary


@pytest.fixture(scope="module")
def ask(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as db:

        def ask(sql, *values):
            result = db.pgconn.exec_params(
                sql.encode(), values, None, [Format.BINARY] * len(values), Format.BINARY
            )
            assert result.status == ExecStatus.TUPLES_OK, result.error_message
            return [result.get_value(0, column) for column in range(result.nfields)]

        yield ask


TEXTS = [[], ["a"], ["", "ä", "€😀"], ["same"] * 5, ["x" * 70_000, "y"]]
NUMBERS = [[], [0], [-1], [7] * 9, [1, -(2**63), 2**63 - 1]]


@pytest.mark.parametrize("values", TEXTS)
def test_texts(ask, values):
    column, n = ask("SELECT $1::text[], cardinality($1::text[])::bigint", binary.texts(values))
    assert binary.texts_of(column) == values
    assert binary.number_of(n) == len(values)


@pytest.mark.parametrize("values", NUMBERS)
def test_bigints(ask, values):
    (column,) = ask("SELECT $1::bigint[]", binary.bigints(values))
    assert binary.numbers_of(column) == values


@pytest.mark.parametrize(
    "values", [[], [b""], [b"\0\1", b"x" * 9000], [None, b"a", None], [None], [b"a", b"a"]]
)
def test_byteas(ask, values):
    (column,) = ask(
        "SELECT coalesce(array_agg(coalesce(encode(b, 'hex'), '-') ORDER BY i), '{}') "
        "FROM unnest($1::bytea[]) WITH ORDINALITY AS u(b, i)",
        binary.byteas(values),
    )
    assert binary.texts_of(column) == ["-" if one is None else one.hex() for one in values]


@pytest.mark.parametrize("values", [[None], [None, None], ["a", None, "b"]])
def test_texts_may_be_null(ask, values):
    (column,) = ask("SELECT to_json($1::text[])::text", binary.texts(values))
    assert binary.text_of(column) == str(values).replace("None", "null").replace("'", '"').replace(" ", "")
    (column,) = ask("SELECT $1::text[]", binary.texts(values))
    assert binary.texts_of(column) == [one for one in values if one is not None]


def test_single_values(ask):
    yes, no, small, big, nothing, text, document = ask(
        "SELECT $1::boolean, $2::boolean, ($3::smallint)::bigint, $4::bigint, $5::bigint, $6::text, "
        "$7::jsonb ->> 'a'",
        binary.boolean(value=True),
        binary.boolean(value=False),
        binary.smallint(63),
        binary.bigint(-5),
        binary.bigint(None),
        binary.text("tö"),
        binary.jsonb(b'{"a": "b"}'),
    )
    assert binary.is_true(yes)
    assert not binary.is_true(no)
    assert not binary.is_true(None)
    assert [binary.number_of(one) for one in (small, big, nothing)] == [63, -5, None]
    assert [binary.text_of(one) for one in (text, document, None)] == ["tö", "b", None]
