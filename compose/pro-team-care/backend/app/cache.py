"""Short-lived numbers in Redis."""

import os

from redis import Redis

cache = Redis(
    os.environ["REDIS_HOST"],
    password=os.environ["REDIS_PASSWORD"],
    socket_connect_timeout=2,
    socket_timeout=2,
    decode_responses=True,
)
