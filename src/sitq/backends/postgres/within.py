"""A user's own transaction: how tasks are handed in through the connections of several libraries."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from sitq.backends.postgres.statements import within
from sitq.exceptions import BackendError, SitqError, ValidationError

_CALL = "SELECT sitq.hand_in({0}, {1}, {2})"
_NO_TRANSACTION = "the connection is in no transaction: begin one, so that its commit decides about the task"

_AUTOCOMMIT = (
    "SQLAlchemy's connection is in AUTOCOMMIT, where nothing can be rolled back: use one with another "
    "isolation level, so that its commit decides about the task"
)


async def hand_in(connection: Any, namespace: str, tasks: bytes, note: str, channel: str) -> None:
    """Put a group into the inbox within the transaction of a connection or session.

    Raises:
        ValidationError: It is none of them, or in no transaction.
        BackendError: The statement failed, and with it the transaction.
    """
    try:
        await _hand_in(connection, namespace, (tasks, note, channel))
    except SitqError:
        raise
    except Exception as error:
        message = f"the task could not be enqueued within the transaction, which has failed: {error}"
        raise BackendError(message, operation="enqueue") from error


async def _hand_in(connection: Any, namespace: str, values: tuple[bytes, str, str]) -> None:
    library = type(connection).__module__.partition(".")[0]
    if isinstance(connection, psycopg.Connection | psycopg.AsyncConnection):
        status = connection.info.transaction_status
        if connection.autocommit and status == TransactionStatus.IDLE:
            raise ValidationError(_NO_TRANSACTION)
        sql = _statement(namespace, "format").encode()
        # Behind a pooler the session that knows a prepared statement may be another one's the next time.
        if isinstance(connection, psycopg.AsyncConnection):
            await connection.execute(sql, values, prepare=False)
        else:
            connection.execute(sql, values, prepare=False)
    elif library == "asyncpg":
        if not connection.is_in_transaction():
            raise ValidationError(_NO_TRANSACTION)
        await connection.execute(_statement(namespace, "numeric_dollar"), *values)
    elif library == "sqlalchemy":
        await _through_sqlalchemy(connection, namespace, values)
    else:
        raise ValidationError(
            "within() takes a connection of psycopg or asyncpg, or one or a session of SQLAlchemy, not "
            f"{type(connection).__module__}.{type(connection).__qualname__}"
        )


async def _through_sqlalchemy(given: Any, namespace: str, values: tuple[bytes, str, str]) -> None:
    is_async = ".asyncio" in type(given).__module__
    connection = given
    if not hasattr(given, "exec_driver_sql"):  # a session
        connection = await given.connection() if is_async else given.connection()
    if connection.dialect.name != "postgresql":
        raise ValidationError(f"the transaction is one of {connection.dialect.name}, the store is PostgreSQL")
    # What SQLAlchemy calls a transaction is none on the server if an engine or connection is set so. Drivers
    # of PostgreSQL have the attribute, or SQLAlchemy's face of them has it.
    outer = connection.sync_connection if is_async else connection
    if getattr(outer.connection.dbapi_connection, "autocommit", False):
        raise ValidationError(_AUTOCOMMIT)
    style = connection.dialect.paramstyle
    named = style == "pyformat"
    arguments = dict(zip("abc", values, strict=True)) if named else values
    done = connection.exec_driver_sql(_statement(namespace, style), arguments)
    if is_async:
        await done


def _statement(namespace: str, style: str) -> str:
    places = {
        "format": ("%s", "%s", "%s"),
        "pyformat": ("%(a)s", "%(b)s", "%(c)s"),
        "numeric_dollar": ("$1", "$2", "$3"),
    }
    if style not in places:
        raise ValidationError(f"SQLAlchemy's driver marks parameters by {style!r}, which sitq does not know")
    return within(_CALL.format(*places[style]), namespace)
