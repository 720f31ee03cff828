"""Proves to a server who we are: keys from a variable, from files, and from the agent. Imported when first used."""

from __future__ import annotations

import base64
import binascii
import io
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import paramiko
from paramiko.agent import AgentSSH

from ops.hosts.route import Endpoint

__all__ = ["KeyAuthentication", "NotAuthenticated"]

_LIST = 5.0  # seconds for an agent to name its keys
_SIGN = 15.0  # seconds for it to sign: a person may have to touch the key, and the server waits meanwhile
_CLASSES = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class NotAuthenticated(Exception):
    """No key was accepted; the text says what was tried and why not, `next_step` what helps."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


class KeyAuthentication(paramiko.AuthStrategy):  # type: ignore[name-defined,misc]  # its stubs lack it
    """Offers the keys of an endpoint one after another, the ones it names first."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._notes: list[str] = []
        self._next_step = ""

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Return once the server accepted a key; raises NotAuthenticated."""
        user = self._endpoint.user
        offered = 0
        with closing(_Agent(self._endpoint.agent)) as agent:
            for label, key in self._candidates(agent):
                offered += 1
                try:
                    more = transport.auth_publickey(user, key)
                except paramiko.BadAuthenticationType as error:
                    raise NotAuthenticated(
                        f"the server takes no keys for {user}, only {', '.join(error.allowed_types)}",
                        "allow PubkeyAuthentication on the server",
                    ) from error
                except paramiko.AuthenticationException as error:
                    if "timeout" in str(error):  # so paramiko puts it
                        raise NotAuthenticated(
                            f"no answer to {label} within {transport.auth_timeout:g} s",
                            "try again once the server is less busy",
                        ) from error
                    closed = "transport shut down" in str(error) or not transport.is_active()
                    self._notes.append(f"{label}: {'the server hung up' if closed else 'not accepted'}")
                    if closed:
                        break
                    continue
                except TimeoutError as error:  # the server's silence is told otherwise
                    raise NotAuthenticated(
                        f"the agent did not sign with {label} within {_SIGN:g} s",
                        "look at the agent: ssh-add -l",
                    ) from error
                if not more:
                    return
                raise NotAuthenticated(
                    f"the server also asks for {', '.join(more)}", "use a user with key login alone"
                )
        tried = "; ".join(self._notes) or "there is no key to offer"
        step = (
            f"put the public key into ~{user}/.ssh/authorized_keys on the server"
            if offered
            else ("name a key in ops.toml (key = …), or load one into the agent (ssh-add)")
        )
        raise NotAuthenticated(f"no key was accepted for {user} ({tried})", self._next_step or step)

    def _candidates(self, agent: _Agent) -> Iterator[tuple[str, paramiko.PKey]]:
        if agent.silent:
            self._notes.append("the agent did not answer")
        held = {key.asbytes(): key for key in agent.get_keys()}
        if self._endpoint.key_text:
            key = self._read("the key from the environment", self._endpoint.key_text)
            if key is not None:
                yield "the key from the environment", key
            return
        if not self._endpoint.explicit_key:
            yield from ((f"agent key {key.fingerprint}", key) for key in held.values())
        for path in self._endpoint.identity_files:
            public = _public(path)
            if public in held:
                if self._endpoint.explicit_key:
                    yield f"agent key for {path}", held[public]
                continue
            with suppress(FileNotFoundError):
                key = self._read(str(path), path.read_text(errors="replace"))
                if key is not None:
                    yield str(path), key

    def _read(self, label: str, text: str) -> paramiko.PKey | None:
        if "PRIVATE KEY" not in text:
            self._notes.append(f"{label}: is no private key")
            return None
        text = text.replace("\r\n", "\n").strip() + "\n"
        for kind in _CLASSES:
            try:
                return kind.from_private_key(io.StringIO(text))
            except paramiko.PasswordRequiredException:
                self._notes.append(f"{label}: is encrypted, and the agent does not hold it")
                self._next_step = (
                    f"ssh-add {label}" if not self._endpoint.key_text else "use a key without passphrase"
                )
                return None
            except (paramiko.SSHException, ValueError, IndexError, TypeError):
                continue  # not of this kind
        self._notes.append(f"{label}: is of a kind that cannot be used")
        return None


class _Agent(AgentSSH):
    """The agent behind a socket path (paramiko's own takes SSH_AUTH_SOCK only); one that is away holds no keys."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.silent = False
        if path:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(_LIST)
            try:
                connection.connect(path)
                self._connect(connection)  # type: ignore[attr-defined]  # as paramiko.Agent does
                connection.settimeout(_SIGN)
            except (OSError, paramiko.SSHException) as error:
                self.silent = isinstance(error, TimeoutError)
                connection.close()

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]  # as paramiko.Agent does


def _public(path: Path) -> bytes:
    """Return the public half that stands beside a key file or, in OpenSSH's own format, in it; else nothing."""
    with suppress(OSError, IndexError, binascii.Error, ValueError):
        return base64.b64decode(path.with_name(path.name + ".pub").read_text().split()[1])
    with suppress(OSError, IndexError, binascii.Error, ValueError, paramiko.SSHException):
        body = "".join(line for line in path.read_text().splitlines() if not line.startswith("-----"))
        data = base64.b64decode(body)
        magic = b"openssh-key-v1\0"
        if data.startswith(magic):
            message = paramiko.Message(data[len(magic) :])
            for _ in range(3):
                message.get_binary()
            message.get_int()
            return message.get_binary()
    return b""
