"""Opens SSH connections hop by hop, each host key checked, each failure told. Imported when first used."""

from __future__ import annotations

import logging
import shlex
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import fabric
import paramiko

from ops.errors import Unreachable
from ops.hosts.keys import KeyAuthentication, NotAuthenticated
from ops.hosts.known_hosts import HostKey, Verdict, judge, key_types
from ops.hosts.route import Endpoint
from ops.hosts.wire import HeardSocket, ProbedTransport, Watch

__all__ = ["Chain", "dial", "scan"]

CONNECT = 10.0  # seconds for TCP, for the banner, and for the key exchange each
AUTHENTICATE = 20.0

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its tracebacks reach the terminal


class Chain:
    """An open connection through its jump hosts; `lost` says why it is gone, once it fell silent."""

    def __init__(self) -> None:
        self._connections: list[fabric.Connection] = []
        self._heard: list[HeardSocket] = []
        self._watches: list[Watch] = []
        self.lost = ""

    @property
    def transport(self) -> ProbedTransport:
        """The transport to the server itself."""
        transport = self._connections[-1].transport
        assert isinstance(transport, ProbedTransport)
        return transport

    @property
    def active(self) -> bool:
        """True while the connection stands."""
        return all(connection.is_connected for connection in self._connections) and not any(
            heard.ended for heard in self._heard
        )

    def add(self, connection: fabric.Connection, heard: HeardSocket, silence: float, shown: str) -> None:
        """Take over the next hop and watch it."""
        self._connections.append(connection)
        self._heard.append(heard)
        self._watches.append(
            Watch(heard, self.transport, silence, partial(self._fell_silent, shown, silence))
        )

    def _fell_silent(self, shown: str, silence: float) -> None:
        self.lost = f"{shown} did not answer for {silence:g} s"
        self.close()

    def close(self) -> None:
        """End all hops, the farthest first."""
        for watch in self._watches:
            watch.stop()
        for connection in reversed(self._connections):
            with suppress(OSError, EOFError, paramiko.SSHException):
                connection.client.close()


def dial(name: str, endpoints: Sequence[Endpoint], silence: float, environment: str) -> Chain:
    """Connect to the last endpoint through the others; raises Unreachable, which tells what was tried and why not."""
    chain = Chain()
    try:
        for index, endpoint in enumerate(endpoints):
            try:
                heard = HeardSocket(_socket(chain, index, endpoint))
                chain.add(_connect(endpoint, heard), heard, silence, endpoint.shown)
            except _Refused as refused:
                raise _untrusted(name, endpoint, refused, environment) from refused
            except (OSError, EOFError, paramiko.SSHException, NotAuthenticated) as error:
                raise _unreachable(name, endpoints[: index + 1], error) from error
    except BaseException:
        chain.close()
        raise
    return chain


def scan(name: str, endpoints: Sequence[Endpoint], environment: str) -> HostKey:
    """Return the key that the last endpoint shows, without trusting it; raises Unreachable."""
    chain = dial(name, endpoints[:-1], 20.0, environment)
    try:
        transport = ProbedTransport(_socket(chain, len(endpoints) - 1, endpoints[-1]))
        try:
            transport.banner_timeout = CONNECT
            transport.start_client(timeout=CONNECT)
            key = transport.get_remote_server_key()
            return HostKey(key.get_name(), key.get_base64())
        finally:
            transport.close()
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise _unreachable(name, endpoints, error) from error
    finally:
        chain.close()


class _Refused(Exception):
    def __init__(self, verdict: Verdict, key: HostKey) -> None:
        super().__init__(verdict)
        self.verdict = verdict
        self.key = key


class _Judge(paramiko.MissingHostKeyPolicy):
    """Asked for every key, since the client itself is given no known ones."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        shown = HostKey(key.get_name(), key.get_base64())
        verdict = judge(self._endpoint.known_hosts, self._endpoint.known_as, shown)
        if verdict != "known":
            raise _Refused(verdict, shown)


def _connect(endpoint: Endpoint, heard: HeardSocket) -> fabric.Connection:
    wanted = key_types(endpoint.known_hosts, endpoint.known_as)
    connection = fabric.Connection(
        endpoint.hostname,
        user=endpoint.user,
        port=endpoint.port,
        config=fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        gateway=False,
        connect_timeout=int(CONNECT),
        connect_kwargs={
            "sock": heard,
            "transport_factory": partial(ProbedTransport, key_types=wanted),
            "auth_strategy": KeyAuthentication(endpoint),
            "banner_timeout": CONNECT,
            "auth_timeout": AUTHENTICATE,
        },
    )
    connection.client.set_missing_host_key_policy(_Judge(endpoint))
    try:
        connection.open()
    except BaseException:
        connection.client.close()
        raise
    return connection


def _socket(
    chain: Chain, index: int, endpoint: Endpoint
) -> socket.socket | paramiko.Channel | paramiko.ProxyCommand:
    address = (endpoint.hostname, endpoint.port)
    if index:
        return chain.transport.open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=CONNECT)
    if endpoint.proxy_command:
        line = endpoint.proxy_command
        for sign, value in (("%h", address[0]), ("%p", str(address[1])), ("%r", endpoint.user), ("%%", "%")):
            line = line.replace(sign, value)
        return paramiko.ProxyCommand(shlex.join(("sh", "-c", f"exec {line}")))
    connection = socket.create_connection(address, timeout=CONNECT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _untrusted(name: str, endpoint: Endpoint, refused: _Refused, environment: str) -> Unreachable:
    trust = f"inv servers.trust{f' --env {environment}' if environment else ''} --server {name}"
    key, who = refused.key, endpoint.known_as
    if refused.verdict == "unknown":
        return Unreachable(
            f"the host key of {who} is not known: {key.fingerprint} ({key.kind})",
            target=name,
            next_step=f"compare the fingerprint with the server's own, then: {trust}",
        )
    if refused.verdict == "revoked":
        return Unreachable(f"the host key of {who} is revoked: {key.fingerprint} ({key.kind})", target=name)
    return Unreachable(
        f"the host key of {who} is not the one that is known; it is now {key.fingerprint} ({key.kind}). "
        "This may be an attack",
        target=name,
        next_step=f"only if the server was set up anew: {trust} --replace",
    )


def _unreachable(name: str, tried: Sequence[Endpoint], error: Exception) -> Unreachable:
    via = f" through {', '.join(hop.shown for hop in tried[:-1])}" if len(tried) > 1 else ""
    step: str | None = "check the address, the port and that sshd runs there"
    if isinstance(error, NotAuthenticated):
        why, step = str(error), error.next_step
    elif isinstance(error, socket.gaierror):
        why, step = (
            "the name is not known",
            "check the address (in ops.toml, or what --server says), or HostName in the ssh_config",
        )
    elif isinstance(error, paramiko.ChannelException) and error.code == 1:
        why, step = (
            "the jump host forbids forwarding",
            "set AllowTcpForwarding yes in the jump host's sshd_config",
        )
    elif (
        isinstance(error, TimeoutError)
        or (isinstance(error, paramiko.SSHException) and isinstance(error.__context__, TimeoutError))
        or str(error).startswith(("No existing session", "Timeout opening"))
    ):
        why = f"no answer within {CONNECT:g} s"
    elif isinstance(error, EOFError) or isinstance(error.__context__, (EOFError, ConnectionError)):
        why = "the server closed the connection during the handshake"
    else:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Unreachable(f"cannot connect to {tried[-1].shown}{via}: {why}", target=name, next_step=step)
