"""Questions: callers ask, agents claim and answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from bson.errors import InvalidId
from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, Field
from pymongo import ReturnDocument

from app import database, metrics
from app.callers import known_caller

CLAIM_SECONDS = 60
router = APIRouter(prefix="/v1/questions", dependencies=[known_caller])


class Question(BaseModel):
    text: str = Field(min_length=1, max_length=4000)


class Answer(BaseModel):
    text: str = Field(default="", max_length=20_000)
    failed: bool = False


@router.post("", status_code=201)
def ask(question: Question) -> dict[str, Any]:
    document: dict[str, Any] = {"text": question.text, "state": "open", "asked_at": datetime.now(UTC)}
    database.questions.insert_one(document)
    return _shown(document)


@router.post("/claim")
def claim(response: Response) -> dict[str, Any] | None:
    """Hand the oldest open question to one agent, also one whose agent has not answered within a minute."""
    now = datetime.now(UTC)
    late = {"state": "claimed", "claimed_at": {"$lt": now - timedelta(seconds=CLAIM_SECONDS)}}
    found = database.questions.find_one_and_update(
        {"$or": [{"state": "open"}, late]},
        {"$set": {"state": "claimed", "claimed_at": now}},
        sort=[("asked_at", 1)],
        return_document=ReturnDocument.AFTER,
    )
    if found is None:
        response.status_code = 204
        return None
    return _shown(found)


@router.put("/{number}/answer")
def answer(number: str, given: Answer) -> dict[str, Any]:
    state = "failed" if given.failed else "answered"
    found = database.questions.find_one_and_update(
        {"_id": _id(number), "state": "claimed"},
        {"$set": {"state": state, "answer": given.text, "answered_at": datetime.now(UTC)}},
        return_document=ReturnDocument.AFTER,
    )
    if found is None:
        raise HTTPException(409, "nobody has claimed such a question, or it is answered")
    (metrics.failures if given.failed else metrics.queries).inc()
    return _shown(found)


@router.get("/{number}")
def question(number: str) -> dict[str, Any]:
    found = database.questions.find_one({"_id": _id(number)})
    if found is None:
        raise HTTPException(404, "no such question")
    return _shown(found)


def _id(text: str) -> ObjectId:
    try:
        return ObjectId(text)
    except InvalidId:
        raise HTTPException(404, "no such question") from None


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    return {"id": str(document["_id"]), **{key: value for key, value in document.items() if key != "_id"}}
