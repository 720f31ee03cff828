"""Nothing of a channel leaves behind its close, in whatever order paramiko's threads come to send."""

from __future__ import annotations

import socket

import paramiko
import pytest
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_DATA, MSG_CHANNEL_EOF

from ops.hosts.wire import ProbedTransport

NUMBER = 7  # how the server calls the channel


@pytest.fixture
def transport(monkeypatch):
    """A connection that stands; `sent` is what left on it, as (kind, the server's number of the channel)."""
    here, there = socket.socketpair()
    made = ProbedTransport(here)
    made.sent = []

    def note(message):
        message.rewind()
        made.sent.append((message.get_byte()[0], message.get_int()))

    monkeypatch.setattr(made.packetizer, "send_message", note)
    made.active = True
    made.clear_to_send.set()
    yield made
    made.active = False
    here.close()
    there.close()


def opened(transport, number=1):
    """A channel as paramiko opens one."""
    channel = paramiko.Channel(number)
    transport._channels.put(number, channel)
    channel._set_window(1 << 20, 1 << 15)
    channel._set_remote_channel(NUMBER, 1 << 20, 1 << 15)
    return channel


WRITES = [
    pytest.param(lambda channel: channel.send(b"stdin"), id="data"),
    pytest.param(lambda channel: channel.shutdown_write(), id="end"),
]


@pytest.mark.parametrize("write", WRITES)
def test_what_is_overtaken_by_the_servers_close_does_not_leave(transport, monkeypatch, write):
    """OpenSSH would end the connection, and with it all other commands."""
    channel = opened(transport)
    send = transport._send_user_message

    def overtaken(message):
        monkeypatch.setattr(transport, "_send_user_message", send)
        channel._handle_close(None)
        send(message)

    monkeypatch.setattr(transport, "_send_user_message", overtaken)
    write(channel)
    assert transport.sent[-1] == (MSG_CHANNEL_CLOSE, NUMBER)
    assert [kind for kind, _ in transport.sent].count(MSG_CHANNEL_CLOSE) == 1


@pytest.mark.parametrize("write", WRITES)
def test_what_is_late_does_not_reach_the_channel_that_has_the_number_now(transport, monkeypatch, write):
    channel, held = opened(transport), []
    send = transport._send_user_message
    monkeypatch.setattr(transport, "_send_user_message", held.append)
    write(channel)
    monkeypatch.setattr(transport, "_send_user_message", send)
    channel._handle_close(None)
    other = opened(transport, 2)
    other.send(b"its own")
    before = list(transport.sent)
    send(held[0])
    assert transport.sent == before
    assert before[-1] == (MSG_CHANNEL_DATA, NUMBER)


def test_what_comes_in_order_leaves_in_order(transport):
    channel = opened(transport)
    channel.send(b"stdin")
    channel.shutdown_write()
    channel.close()
    assert transport.sent == [
        (MSG_CHANNEL_DATA, NUMBER),
        (MSG_CHANNEL_EOF, NUMBER),
        (MSG_CHANNEL_CLOSE, NUMBER),
    ]


def test_a_channel_can_end_from_the_moment_it_is_known(transport):
    """The reading thread ends all that it finds, also one that paramiko is about to open."""
    channel = paramiko.Channel(1)
    transport._channels.put(1, channel)
    channel._unlink()
    assert channel.closed
