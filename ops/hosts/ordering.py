"""Channels that send nothing behind their close, whatever threads they are used from.

Paramiko makes a message under a channel's lock and sends it without. So the end of stdin, or a piece of it, may
leave after the close that answered the server's, and OpenSSH ends the whole connection then, with all that runs
there (paramiko/paramiko#1115). Or the server has given the number to another channel meanwhile, which would read it.
Imported when first used.
"""

from __future__ import annotations

from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_CLOSE
from paramiko.transport import ChannelMap

__all__ = ["OrderedChannels", "overtaken"]


class OrderedChannels(ChannelMap):
    """The channels of a transport, ordered ones, since paramiko makes its own."""

    def __init__(self, transport: paramiko.Transport) -> None:
        super().__init__()
        self._transport = transport

    def put(self, number: int, channel: paramiko.Channel) -> None:
        """Take a channel in, before anybody uses it."""
        channel.__class__ = _OrderedChannel
        # Paramiko would tell it later, and its reading thread breaks at a channel without, if it ends just then.
        channel._set_transport(self._transport)  # type: ignore[attr-defined]  # not in paramiko's stubs, as below
        super().put(number, channel)


def overtaken(message: paramiko.Message) -> bool:
    """Return whether a message comes behind the close of its channel; asked for each, in the order of sending."""
    channel = getattr(message, "channel", None)
    if channel is None:
        return False
    if channel.close_sent:
        return True
    channel.close_sent = message.asbytes().startswith(cMSG_CHANNEL_CLOSE)
    return False


class _OrderedChannel(paramiko.Channel):
    """A channel whose messages know it."""

    close_sent = False

    def _send(self, data: bytes, message: Any) -> int:
        message.channel = self
        sent: int = super()._send(data, message)  # type: ignore[misc]
        return sent

    def _send_eof(self) -> Any:
        return self._named(super()._send_eof())  # type: ignore[misc]

    def _close_internal(self) -> tuple[Any, Any]:
        end, close = super()._close_internal()  # type: ignore[misc]
        return end, self._named(close)

    def _named(self, message: Any) -> Any:
        if message is not None:
            message.channel = self
        return message
