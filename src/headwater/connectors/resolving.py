"""Resolves hosts for capabilities that connect without the HTTP client: drivers of databases, SFTP, S3.

A capability connects to a returned address, never to the name: the name could resolve to another address a moment
later.
"""

import ipaddress
import socket
import threading
from collections.abc import Sequence
from typing import Final

from headwater.base.errors import Unavailable
from headwater.connectors.addresses import WEB_PORTS, AddressForbidden, AddressPolicy
from headwater.connectors.slots import SharedSlots

RESOLVE_SECONDS: Final = 5.0
MAX_RESOLUTIONS: Final = 32
"""Maximum number of resolutions in progress, including those whose callers no longer wait. One workspace has at most
half of them."""

_MAX_HOST_CHARACTERS: Final = 253
_slots: Final = SharedSlots(MAX_RESOLUTIONS)


class DestinationForbidden(Unavailable):
    """The address of a host is not allowed. The message names the setting of the operator."""

    def __init__(self, host: str, rule: str) -> None:
        super().__init__(
            f"{host} cannot be connected to: {rule}; "
            "the operator can allow addresses with HEADWATER_ALLOW_PRIVATE_DESTINATIONS"
        )


def resolve_allowed(
    host: str,
    port: int,
    policy: AddressPolicy,
    *,
    workspace: int | None,
    ports: frozenset[int] = WEB_PORTS,
    timeout_seconds: float = RESOLVE_SECONDS,
) -> list[str]:
    """Return the numeric addresses of a host, in the order in which to try them.

    Every address must be allowed. `workspace` is the one that the resolution is for; None for none. `ports` are the
    ports below 1024 of the protocol, as in `AddressPolicy.check`. Raises DestinationForbidden, and Unavailable if the
    host has no address or the resolver does not respond in time. It blocks: call it in a thread.
    """
    addresses = _addresses(host, port, workspace, timeout_seconds)
    for address in addresses:
        try:
            policy.check(address, port, ports)
        except AddressForbidden as error:
            raise DestinationForbidden(host, str(error)) from error
    return addresses


def _addresses(host: str, port: int, workspace: int | None, timeout_seconds: float) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if not 0 < len(host) <= _MAX_HOST_CHARACTERS or not host.isprintable() or "%" in host:
        raise Unavailable(f"{host[:_MAX_HOST_CHARACTERS]!r} is not a host")
    if not _slots.acquire(workspace, timeout_seconds):
        raise Unavailable("too many hosts are being resolved")
    return _Resolution(host, port, workspace).wait(timeout_seconds)


class _Resolution:
    """One resolution, in a daemon thread: `getaddrinfo` cannot be interrupted, and must not delay the end of the
    process."""

    def __init__(self, host: str, port: int, workspace: int | None) -> None:
        self._host = host
        self._port = port
        self._workspace = workspace
        self._found: Sequence[str] | None = None
        self._reason = ""
        self._is_done = threading.Event()
        try:
            threading.Thread(target=self._resolve, name=f"resolve {host}", daemon=True).start()
        except BaseException:
            _slots.release(self._workspace)
            raise

    def _resolve(self) -> None:
        try:
            entries = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            # The scope of a link-local address is kept, so that the policy refuses it.
            self._found = [str(entry[4][0]) for entry in entries]
        except socket.gaierror as error:
            self._reason = error.strerror or "no address"
        except (OSError, UnicodeError):
            self._reason = "the name is not valid"
        finally:
            _slots.release(self._workspace)
            self._is_done.set()

    def wait(self, timeout_seconds: float) -> list[str]:
        if not self._is_done.wait(timeout_seconds):
            raise Unavailable(f"{self._host} was not resolved in {timeout_seconds:g} seconds")
        if not self._found:
            raise Unavailable(f"{self._host} was not resolved: {self._reason or 'it has no address'}")
        return list(dict.fromkeys(self._found))
