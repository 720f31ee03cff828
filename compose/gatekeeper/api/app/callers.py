"""Who may call: whoever bears the key."""

import hmac
from typing import Annotated

from fastapi import Depends, Header, HTTPException

from app.secrets import secret

KEY = secret("api_key")


def _bears_the_key(authorization: Annotated[str, Header()] = "") -> None:
    if not hmac.compare_digest(authorization.encode(), f"Bearer {KEY}".encode()):
        raise HTTPException(401, "unknown key", {"WWW-Authenticate": "Bearer"})


known_caller = Depends(_bears_the_key)
