"""Kinds of values in ops.toml, each with what it takes."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["HostName", "Model", "Name", "Port", "RequestPath", "Variable"]

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=63)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Port = Annotated[int, Field(ge=1, le=65535)]


def _request_path(text: str) -> str:
    if text and not re.fullmatch(r"/[!-~]*", text):
        raise ValueError("must begin with / and hold plain ASCII without spaces (write others as %XX)")
    return text


def _host_name(text: str) -> str:
    label = r"[A-Za-z0-9_-]{1,63}"
    if text and not re.fullmatch(rf"{label}(\.{label})*\.?", text) and not _is_address(text):
        raise ValueError("must be a host name in ASCII (punycode for others) or an address, without a port")
    return text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


RequestPath = Annotated[str, AfterValidator(_request_path)]
HostName = Annotated[str, AfterValidator(_host_name)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
