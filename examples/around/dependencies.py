"""Parameters that the worker fills in: a connection for each attempt, a client for the whole worker."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from sitq import INJECTED, Depends, MemoryBackend, TaskQueue, Worker


class Client:
    """Something that is slow to open."""

    async def fetch(self, path: str) -> str:
        return f"content of {path}"


async def get_client() -> AsyncIterator[Client]:
    print("client opened")
    yield Client()
    print("client closed")


def get_connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    try:
        yield connection
        connection.commit()
    except Exception as error:
        connection.rollback()
        print("rolled back:", error)
        raise
    finally:
        connection.close()


async def crawl(path: str, client: Annotated[Client, Depends(get_client, scope="worker")] = INJECTED) -> str:
    return await client.fetch(path)


def store(number: int, connection: sqlite3.Connection = Depends(get_connection)) -> int:
    connection.execute("CREATE TABLE numbers (number INTEGER CHECK (number > 0))")
    connection.execute("INSERT INTO numbers VALUES (?)", [number])
    return number


async def main() -> None:
    backend = MemoryBackend()
    async with TaskQueue(backend) as queue, Worker(backend):
        print(await queue.gather(await queue.submit(crawl, "/a"), await queue.submit(crawl, "/b")))
        print("stored", await (await queue.submit(store, 7)))
        failed = await queue.get_result(await queue.enqueue(store, -7), timeout=5)
        assert failed is not None
        print(failed.status)


if __name__ == "__main__":
    asyncio.run(main())
