"""Arguments that nobody is to see, and arguments that are too large for the store."""

import asyncio
import secrets
import tempfile
from pathlib import Path
from typing import Annotated

from sitq import KeyRing, Secret, Spill, SQLiteBackend, TaskQueue, Worker, task


@task(name="upload")
async def upload(document: bytes, password: Annotated[str, Secret]) -> str:
    if password == "wrong":
        raise PermissionError(f"{password} is not the password")
    return f"{len(document):,} bytes for somebody with {len(password)} letters"


async def main(folder: Path) -> None:
    keys = KeyRing([("2030", secrets.token_bytes(32))])
    spill = Spill(folder / "large")
    backend = SQLiteBackend(folder / "tasks.db")
    async with TaskQueue(backend, keys=keys, spill=spill) as queue, Worker(backend, keys=keys, spill=spill):
        handle = await queue.submit(upload, bytes(5_000_000), "correct horse")
        print(await handle)
        print("shown as:", (await handle.info()).preview)
        refused = await (await queue.submit(upload, b"", "wrong")).outcome()
        print("failed:", refused.error)
    stored = b"".join(each.read_bytes() for each in folder.glob("tasks.db*"))
    print(f"in the store: the document {'yes' if len(stored) > 5_000_000 else 'no'}, ", end="")
    print(f"the password {'yes' if b'correct horse' in stored else 'no'}")
    print("beside it:", len([each for each in (folder / "large").rglob("*") if each.is_file()]), "file")


with tempfile.TemporaryDirectory() as temporary:
    asyncio.run(main(Path(temporary)))
