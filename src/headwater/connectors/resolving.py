"""Resolves hosts for capabilities: drivers of databases, SFTP, S3, and the HTTP client.

A capability connects to a returned address, never to the name: the name could resolve to another address a moment
later. All share the same slots, because a slow name server holds a thread for each of its names.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
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


async def resolve_on_loop(
    host: str, port: int, *, family: int, workspace: int | None, timeout_seconds: float = RESOLVE_SECONDS
) -> list[str]:
    """Return the numeric addresses of a host, without blocking the event loop. The caller checks them.

    Raises Unavailable as `resolve_allowed` does.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_seconds
    _check_name(host)
    if not await _slots.acquire_on_loop(workspace, timeout_seconds):
        raise Unavailable("too many hosts are being resolved")
    is_done = asyncio.Event()

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(is_done.set)

    resolution = _Resolution(host, port, workspace, family=family, flags=socket.AI_ADDRCONFIG, notify=notify)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(end):
            await is_done.wait()
    return resolution.wait(0, timeout_seconds)


def _check_name(host: str) -> None:
    if not 0 < len(host) <= _MAX_HOST_CHARACTERS or not host.isprintable() or "%" in host:
        raise Unavailable(f"{host[:_MAX_HOST_CHARACTERS]!r} is not a host")


def _addresses(host: str, port: int, workspace: int | None, timeout_seconds: float) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    _check_name(host)
    if not _slots.acquire(workspace, timeout_seconds):
        raise Unavailable("too many hosts are being resolved")
    return _Resolution(host, port, workspace).wait(timeout_seconds, timeout_seconds)


class _Resolution:
    """One resolution, in a daemon thread: `getaddrinfo` cannot be interrupted, and must not delay the end of the
    process."""

    def __init__(
        self,
        host: str,
        port: int,
        workspace: int | None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = 0,
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        """Start. `notify` is called in the thread at the end."""
        self._host = host
        self._port = port
        self._workspace = workspace
        self._family = family
        self._flags = flags
        self._notify = notify
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
            entries = socket.getaddrinfo(
                self._host, self._port, family=self._family, type=socket.SOCK_STREAM, flags=self._flags
            )
            # The scope of a link-local address is kept, so that the policy refuses it.
            self._found = [str(entry[4][0]) for entry in entries]
        except socket.gaierror as error:
            self._reason = error.strerror or "no address"
        except (OSError, UnicodeError):
            self._reason = "the name is not valid"
        finally:
            _slots.release(self._workspace)
            self._is_done.set()
            self._notify()

    def wait(self, timeout_seconds: float, limit_seconds: float) -> list[str]:
        """Return the addresses. `limit_seconds` is for the message of a resolution that does not end in time."""
        if not self._is_done.wait(timeout_seconds):
            raise Unavailable(f"{self._host} was not resolved in {limit_seconds:g} seconds")
        if not self._found:
            raise Unavailable(f"{self._host} was not resolved: {self._reason or 'it has no address'}")
        return list(dict.fromkeys(self._found))
