"""Resolving the hosts that capabilities connect to."""

import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable
from headwater.connectors import resolving
from headwater.connectors.addresses import ANY_ADDRESS, NO_SYSTEM_PORTS, SFTP_PORTS, AddressPolicy
from headwater.connectors.resolving import DestinationForbidden, resolve_allowed
from headwater.connectors.slots import SharedSlots


def resolver(*addresses: str) -> Callable[..., list[Any]]:
    def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


@pytest.mark.parametrize(
    ("host", "addresses"), [("127.0.0.1", ["127.0.0.1"]), ("::1", ["::1"]), ("2606:4700::1111", ["2606:4700::1111"])]
)
def test_an_address_is_returned_as_it_is(host: str, addresses: list[str]) -> None:
    assert resolve_allowed(host, 5432, ANY_ADDRESS, workspace=None) == addresses


def test_a_name_is_resolved() -> None:
    assert "127.0.0.1" in resolve_allowed("localhost", 5432, ANY_ADDRESS, workspace=None)


def test_addresses_keep_their_order_without_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver("8.8.8.8", "1.1.1.1", "8.8.8.8"))
    assert resolve_allowed("example.com", 443, AddressPolicy(), workspace=None) == ["8.8.8.8", "1.1.1.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "10.0.0.1", "169.254.169.254"])
def test_the_error_names_the_setting(host: str) -> None:
    with pytest.raises(DestinationForbidden, match="HEADWATER_ALLOW_PRIVATE_DESTINATIONS"):
        resolve_allowed(host, 5432, AddressPolicy(), workspace=None)


@pytest.mark.parametrize("other", ["10.0.0.1", "fe80::1%eth0", "::ffff:127.0.0.1"])
def test_one_forbidden_address_of_several_is_an_error(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver("8.8.8.8", other))
    with pytest.raises(DestinationForbidden):
        resolve_allowed("example.com", 443, AddressPolicy(), workspace=None)


@pytest.mark.parametrize(
    ("port", "ports", "allowed"),
    [(22, SFTP_PORTS, True), (443, SFTP_PORTS, False), (5432, NO_SYSTEM_PORTS, True), (80, NO_SYSTEM_PORTS, False)],
)
def test_the_ports_of_the_protocol_are_allowed(port: int, ports: frozenset[int], allowed: bool) -> None:
    if allowed:
        assert resolve_allowed("8.8.8.8", port, AddressPolicy(), ports=ports, workspace=None) == ["8.8.8.8"]
    else:
        with pytest.raises(DestinationForbidden, match=f"port {port} is not allowed"):
            resolve_allowed("8.8.8.8", port, AddressPolicy(), ports=ports, workspace=None)


@pytest.mark.parametrize("host", ["", "x" * 300, "a\nb", "a\0b", "fe80::1%eth0", "no-such-host.invalid", "é" * 100])
def test_other_hosts_are_an_error(host: str) -> None:
    with pytest.raises(Unavailable):
        resolve_allowed(host, 5432, ANY_ADDRESS, workspace=None)


def test_a_slow_resolver_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(resolving, "_slots", SharedSlots(1))
    with pytest.raises(Unavailable, match="not resolved in"):
        resolve_allowed("slow.example", 443, AddressPolicy(), timeout_seconds=0.05, workspace=None)
    with pytest.raises(Unavailable, match="too many"):
        resolve_allowed("slow.example", 443, AddressPolicy(), timeout_seconds=0.05, workspace=None)
    answered.set()
    with pytest.raises(Unavailable, match="no address"):
        resolve_allowed("slow.example", 443, AddressPolicy(), timeout_seconds=30, workspace=None)


def test_slow_names_of_one_workspace_leave_slots_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        if host == "slow.example":
            answered.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(resolving, "_slots", SharedSlots(4))
    failures = []
    for workspace in (1, 1, 1, 2, 2):
        with pytest.raises(Unavailable) as raised:
            resolve_allowed("slow.example", 443, AddressPolicy(), workspace=workspace, timeout_seconds=0.05)
        failures.append("too many" in str(raised.value))
    assert failures == [False, False, True, False, True]
    assert resolve_allowed("example.com", 443, AddressPolicy(), workspace=3) == ["8.8.8.8"]
    answered.set()
    assert resolve_allowed("example.com", 443, AddressPolicy(), workspace=1) == ["8.8.8.8"]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=80))
def test_a_workspace_never_has_more_slots_than_are_free(steps: list[tuple[bool, int]]) -> None:
    slots, taken = SharedSlots(8), Counter[int]()
    for takes, workspace in steps:
        free = 8 - taken.total()
        if takes:
            assert slots.acquire(workspace, 0) == (free > taken[workspace])
            taken[workspace] += free > taken[workspace]
        elif taken[workspace]:
            slots.release(workspace)
            taken[workspace] -= 1
