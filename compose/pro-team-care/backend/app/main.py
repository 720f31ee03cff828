"""The API. The port opens once the database and the cache answer."""

import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

from app.cache import cache
from app.database import Database, Patient
from app.health import check

VERSION, HOST = os.environ.get("APP_VERSION", "dev"), socket.gethostname()
COUNT_SECONDS, ATTEMPT_SECONDS = 2, 900


@asynccontextmanager
async def ready(_: FastAPI) -> AsyncIterator[None]:
    deadline = time.monotonic() + 20
    while "down" in check().values():
        if time.monotonic() > deadline:
            raise RuntimeError("the database or the cache does not answer")
        time.sleep(0.3)
    yield


app = FastAPI(
    title="Pro Team Care",
    version=VERSION,
    lifespan=ready,
    debug="APP_DEBUG" in os.environ,
    docs_url=None,
    redoc_url=None,
    openapi_url="/api/v1/openapi.json",
)


class Admission(BaseModel):
    name: str = Field(min_length=1, max_length=200)


class Record(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    admitted_at: datetime


class Login(BaseModel):
    username: str = Field(min_length=1, max_length=100)
    password: str = Field(min_length=1, max_length=200)


@app.middleware("http")
async def name_version(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers["X-Version"], response.headers["X-Host"] = VERSION, HOST
    return response


@app.get("/api/v1/health")
def health(response: Response) -> dict[str, str]:
    states = check()
    if "down" in states.values():
        response.status_code = 503
    return states


@app.get("/api/v1/version")
def version() -> dict[str, str]:
    return {"version": VERSION, "revision": os.environ.get("APP_REVISION", ""), "host": HOST}


@app.post("/api/v1/patients", status_code=201)
def admit(admission: Admission, database: Database) -> Record:
    patient = Patient(name=admission.name)
    database.add(patient)
    database.commit()
    database.refresh(patient)  # what is answered was read back
    cache.delete("patients:count")
    return Record.model_validate(patient)


@app.get("/api/v1/patients")
def patients(database: Database) -> list[Record]:
    latest = select(Patient).order_by(Patient.id.desc()).limit(50)
    return [Record.model_validate(patient) for patient in database.scalars(latest)]


@app.get("/api/v1/patients/count")
def count(database: Database) -> dict[str, int]:
    known = cache.get("patients:count")
    if known is None:
        known = database.scalar(select(func.count()).select_from(Patient)) or 0
        cache.set("patients:count", known, ex=COUNT_SECONDS)
    return {"count": int(known)}


@app.get("/api/v1/patients/{number}")
def patient(number: int, database: Database) -> Record:
    found = database.get(Patient, number)
    if found is None:
        raise HTTPException(404, "no such patient")
    return Record.model_validate(found)


@app.post("/api/v1/auth/login", status_code=401)
def login(attempt: Login) -> dict[str, object]:
    """There are no accounts, so that nobody gets in; attempts are counted for each name all the same."""
    key = f"login:{attempt.username}"
    with cache.pipeline() as pipeline:
        attempts, _ = pipeline.incr(key).expire(key, ATTEMPT_SECONDS).execute()
    return {"error": "unknown name or wrong password", "attempts": attempts}
