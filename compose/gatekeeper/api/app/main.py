"""The API. The port opens once the database answers."""

import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import database, events, files, metrics, questions

VERSION, HOST = os.environ.get("APP_VERSION", "dev"), socket.gethostname()


@asynccontextmanager
async def ready_first(_: FastAPI) -> AsyncIterator[None]:
    database.prepare()  # waits for the database as long as its client does, then fails
    yield
    database.client.close()


app = FastAPI(
    title="Gatekeeper",
    version=VERSION,
    lifespan=ready_first,
    debug="APP_DEBUG" in os.environ,
    docs_url=None,
    redoc_url=None,
)
for part in (events, questions, files):
    app.include_router(part.router)


@app.middleware("http")
async def counted(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    begun = time.perf_counter()
    response = await answer(request)
    # By route, not by path: a scanner's paths must not become a time series each.
    route = getattr(request.scope.get("route"), "path", "none")
    metrics.requests.labels(request.method, route, response.status_code).inc()
    metrics.duration.labels(route).observe(time.perf_counter() - begun)
    response.headers["X-Version"], response.headers["X-Host"] = VERSION, HOST
    return response


@app.get("/health")
def health() -> dict[str, str]:
    """Whether the process runs; /ready is whether it can do its work."""
    return {"status": "ok"}


@app.get("/ready")
def ready(response: Response) -> dict[str, str]:
    up = database.answers()
    response.status_code = 200 if up else 503
    return {"database": "up" if up else "down"}


@app.get("/version")
def version() -> dict[str, str]:
    return {"version": VERSION, "revision": os.environ.get("APP_REVISION", ""), "host": HOST}


@app.get("/metrics")
def exposition() -> PlainTextResponse:
    return PlainTextResponse(generate_latest(), media_type=CONTENT_TYPE_LATEST)
