"""Events: webhooks bring them, callers read them."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Path, Request
from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError
from starlette.concurrency import run_in_threadpool

from app import database, metrics
from app.callers import known_caller
from app.secrets import secret
from app.webhooks import Refused, check

SECRET = secret("webhook_secret")
router = APIRouter(prefix="/v1")


@router.post("/webhooks/{source}", status_code=202)
async def receive(
    request: Request,
    source: Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}$")],
    x_timestamp: Annotated[str, Header(max_length=20)] = "",
    x_signature: Annotated[str, Header(max_length=100)] = "",
) -> dict[str, str]:
    """Take an event that is signed, fresh and new; one that came before is answered with 409."""
    body = await request.body()
    try:
        check(SECRET, x_timestamp, x_signature, body)
    except Refused as error:
        metrics.webhooks.labels("refused").inc()
        raise HTTPException(401, str(error)) from None
    event = {
        "signature": x_signature,
        "source": source,
        "body": body,
        "received_at": datetime.now(UTC),
    }
    try:
        # The index on the signature is the protection: it holds for all replicas at once.
        kept = await run_in_threadpool(database.events.insert_one, event)
    except DuplicateKeyError:
        metrics.webhooks.labels("replayed").inc()
        raise HTTPException(409, "this event is known already") from None
    metrics.webhooks.labels("accepted").inc()
    return {"id": str(kept.inserted_id)}


@router.get("/events", dependencies=[known_caller])
def latest(limit: int = 50) -> list[dict[str, Any]]:
    found = database.events.find().sort("received_at", DESCENDING).limit(max(1, min(limit, 200)))
    return [
        {
            "id": str(event["_id"]),
            "source": event["source"],
            "body": event["body"].decode(errors="replace"),
            "received_at": event["received_at"],
        }
        for event in found
    ]
