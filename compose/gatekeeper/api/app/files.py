"""Files: what callers leave, in a folder of the server, with size and hash in the database."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from app import database
from app.callers import known_caller

FOLDER = Path("/uploads")
LARGEST = 5 * 1024 * 1024
Name = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$")]
router = APIRouter(prefix="/v1/files", dependencies=[known_caller])


@router.put("/{name}", status_code=201)
async def keep(name: Name, request: Request) -> dict[str, Any]:
    content = await request.body()
    if len(content) > LARGEST:
        raise HTTPException(413, "larger than 5 MiB")
    return await run_in_threadpool(_kept, name, content)


@router.get("/{name}")
def fetch(name: Name) -> FileResponse:
    path = FOLDER / name
    if not path.is_file():
        raise HTTPException(404, "no such file")
    return FileResponse(path, media_type="application/octet-stream", filename=name)


def _kept(name: str, content: bytes) -> dict[str, Any]:
    # Renamed into place, so that nobody reads, and no backup takes, half a file.
    with tempfile.NamedTemporaryFile(dir=FOLDER, prefix=".incoming-", delete=False) as beside:
        try:
            beside.write(content)
            beside.flush()
            os.fsync(beside.fileno())
            Path(beside.name).replace(FOLDER / name)
        except OSError:
            Path(beside.name).unlink(missing_ok=True)
            raise
    known = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    database.files.update_one({"_id": name}, {"$set": known}, upsert=True)
    return {"name": name, **known}
