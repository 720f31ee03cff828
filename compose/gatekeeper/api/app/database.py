"""Gatekeeper's collections in MongoDB."""

import os

from pymongo import ASCENDING, MongoClient
from pymongo.errors import PyMongoError

from app.secrets import secret

client: MongoClient = MongoClient(
    os.environ["MONGO_HOST"],
    username=os.environ["MONGO_USERNAME"],
    password=secret("db_password"),
    authSource=os.environ["MONGO_DATABASE"],
    authMechanism="SCRAM-SHA-256",
    appname="gatekeeper-api",
    serverSelectionTimeoutMS=10_000,
    connectTimeoutMS=2_000,
    tz_aware=True,
)
database = client[os.environ["MONGO_DATABASE"]]
events, questions, files = database["events"], database["questions"], database["files"]


def prepare() -> None:
    """Make the indexes: an event's signature is taken once, and agents find the oldest open question."""
    events.create_index("signature", unique=True)
    events.create_index([("received_at", ASCENDING)])
    questions.create_index([("state", ASCENDING), ("asked_at", ASCENDING)])


def answers(seconds: float = 1.5) -> bool:
    """Return whether the database answers in time."""
    try:
        database.command("ping", maxTimeMS=int(seconds * 1000))
    except PyMongoError:
        return False
    return True
