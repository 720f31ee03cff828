"""Whether the database and the cache answer, known in bounded time."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from app.cache import cache
from app.database import engine

_threads = ThreadPoolExecutor(4)  # a frozen database holds the thread that asks, not the request


def _ask_database() -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def check(seconds: float = 1.5) -> dict[str, str]:
    """Return `up` or `down` for each of the two."""
    asked = {"database": _threads.submit(_ask_database), "cache": _threads.submit(cache.ping)}
    states = {}
    for name, answer in asked.items():
        try:
            answer.result(timeout=seconds)
            states[name] = "up"
        except Exception:  # whatever is wrong, it does not answer
            states[name] = "down"
    return states
