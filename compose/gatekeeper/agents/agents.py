"""The agents: take questions from the API and answer them, each by the first rule that fits. No model is needed."""

import json
import logging
import os
import re
import signal
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, start_http_server

API = os.environ["API_URL"]
KEY = Path("/run/secrets/api_key").read_text().strip()
IDLE_SECONDS, LONGEST_PAUSE = 0.5, 10.0

answered = Counter("agent_answers_total", "Questions answered, by the agent.", ["agent"])
reachable = Gauge("agent_api_reachable", "1 while the API answers.")


def call(method: str, path: str, body: object = None) -> Any:
    """Return what the API answers; None for nothing."""
    request = urllib.request.Request(
        f"{API}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        content = response.read()
        return json.loads(content) if content else None


def answer(text: str) -> tuple[str, str]:
    """Return the agent that answers a question, and its answer."""
    if re.search(r"\btime\b", text, re.IGNORECASE):
        return "clock", datetime.now(UTC).isoformat(timespec="seconds")
    if re.search(r"\bevents?\b", text, re.IGNORECASE):
        found = call("GET", "/v1/events?limit=200")
        sources = sorted({event["source"] for event in found})
        return "clerk", f"{len(found)} events, from {', '.join(sources) or 'nobody'}"
    return "porter", f"I take that down: {text}"


def work() -> bool:
    """Answer one question; return whether there was one."""
    question = call("POST", "/v1/questions/claim")
    if question is None:
        return False
    agent, text = answer(question["text"])
    call("PUT", f"/v1/questions/{question['id']}/answer", {"text": text})
    answered.labels(agent).inc()
    return True


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    start_http_server(8002)
    pause = IDLE_SECONDS
    while not stop.is_set():
        try:
            busy, pause = work(), IDLE_SECONDS
            reachable.set(1)
        except (OSError, urllib.error.URLError, ValueError) as error:
            # A question that was claimed and not answered is handed out again after a minute.
            logging.warning("the API does not answer: %s; again in %.1f s", error, pause)
            busy, pause = False, min(pause * 2, LONGEST_PAUSE)
            reachable.set(0)
        if not busy:
            stop.wait(pause)


if __name__ == "__main__":
    main()
