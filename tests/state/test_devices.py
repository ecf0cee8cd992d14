"""Devices: the latest registration counts, devices and tokens move, and removals in another's name are of the past."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.events.devices import DeviceChange
from headwater.state import Device, DeviceEvent, StateStore
from headwater.state.devices import Devices


def registered(
    device_id: str, user: str | None = "u", anonymous: str | None = None, *, at: int = 0, source: int = 1, **said: Any
) -> DeviceEvent:
    return DeviceEvent(7, source, user, anonymous, at, DeviceChange("registered", device_id, **said))


def removed(device_id: str, user: str | None = "u", anonymous: str | None = None, **said: Any) -> DeviceEvent:
    return DeviceEvent(7, 1, user, anonymous, 0, DeviceChange("removed", device_id, **said))


def device(device_id: str, user: str | None = "u", anonymous: str | None = None, **known: Any) -> Device:
    members: dict[str, Any] = {
        "token": None,
        "os": "",
        "os_version": None,
        "model": "",
        "app_build": "",
        "app_version": "",
        "updated_at": 0,
        **known,
    }
    return Device(7, 1, device_id, user, anonymous, **members)


CASES: list[tuple[list[DeviceEvent], list[Device]]] = [
    # Sent attributes count, and absent ones are kept
    ([registered("d", at=5)], [device("d", updated_at=5)]),
    (
        [registered("d", token="t", os="iOS", model="m"), registered("d", os="iOS 17", app_build="1", at=3)],
        [device("d", token="t", os="iOS 17", model="m", app_build="1", updated_at=3)],
    ),
    ([registered("d", token="t"), registered("d", token=None)], [device("d")]),
    ([registered("d", model="m", os_version="1"), registered("d", model=None, os_version=None)], [device("d")]),
    ([registered("d", at=9), registered("d", at=3)], [device("d", updated_at=9)]),
    # Devices move
    ([registered("d", "u"), registered("d", "v")], [device("d", "v")]),
    ([registered("d", "u", "a"), registered("d", "v")], [device("d", "v")]),
    ([registered("d", "u", "a"), registered("d", "u")], [device("d", "u", "a")]),
    ([registered("d", None, "a"), registered("d", "u")], [device("d", "u", "a")]),
    ([registered("d", "u", "a"), registered("d", None, "a")], [device("d", "u", "a")]),
    ([registered("d", "u", "a"), registered("d", None, "b")], [device("d", None, "b")]),
    # So do tokens: a token is of one device
    ([registered("d", token="t", os="iOS"), registered("e", token="t")], [device("e", token="t", os="iOS")]),
    ([registered("d", "u", token="t"), registered("e", "v", token="t")], [device("e", "v", token="t")]),
    (
        [registered("d", token="t"), registered("e", model="m"), registered("e", token="t")],
        [device("e", token="t", model="m")],
    ),
    ([registered("d", token="t"), registered("e", token="s"), registered("d", token="s")], [device("d", token="s")]),
    (
        [registered("d", token="t"), registered("d", token="s"), registered("e", token="t")],
        [device("d", token="s"), device("e", token="t")],
    ),
    # Removals
    ([registered("d"), removed("d")], []),
    ([registered("d", token="t"), removed("t", token="t")], []),
    ([registered("d", "v"), removed("d", "u")], [device("d", "v")]),
    ([registered("d", None, "a"), removed("d", "u")], []),
    ([registered("d", "u"), removed("d", None, "a")], []),
    ([removed("d")], []),
    ([registered("d"), removed("d"), registered("d", model="m")], [device("d", model="m")]),
]


@pytest.mark.parametrize(("events", "devices"), CASES)
@pytest.mark.parametrize("together", [True, False])
async def test_what_is_known_after_events(
    state: StateStore, events: list[DeviceEvent], devices: list[Device], together: bool
) -> None:
    for some in [events] if together else [[event] for event in events]:
        async with state.transaction() as transaction:
            await transaction.change_devices(some)
    found, total = await state.devices([1], user_id=None, anonymous_id=None, first=0, limit=10)
    assert (sorted(found, key=lambda each: each.device_id), total) == (devices, len(devices))


async def test_a_device_and_a_token_are_of_one_connection(state: StateStore) -> None:
    async with state.transaction() as transaction:
        await transaction.change_devices([registered("d", token="t"), registered("d", "v", token="t", source=2)])
    found, _ = await state.devices([1, 2], user_id=None, anonymous_id=None, first=0, limit=10)
    assert {(each.connection, each.user_id) for each in found} == {(1, "u"), (2, "v")}


async def test_the_devices_of_connections_that_are_gone_are_removed(state: StateStore) -> None:
    async with state.transaction() as transaction:
        await transaction.change_devices([registered("d"), registered("e", source=2)])
        await transaction.remove_sources_except([2], workspaces=[7])
    found, _ = await state.devices([1, 2], user_id=None, anonymous_id=None, first=0, limit=10)
    assert [each.device_id for each in found] == ["e"]


_events = st.builds(
    lambda make, id_, user, anonymous, said: make(id_, user, anonymous, **said),
    st.sampled_from([registered, registered, removed]),
    st.sampled_from("def"),
    st.sampled_from([None, "u", "v"]),
    st.sampled_from([None, "a"]),
    st.dictionaries(st.just("token"), st.sampled_from([None, "s", "t"])),
)


@given(st.lists(_events, max_size=12), st.integers(0, 12))
def test_a_token_has_one_device_and_it_does_not_matter_how_the_log_is_cut(events: list[DeviceEvent], cut: int) -> None:
    whole = Devices([])
    whole.apply(events)
    first = Devices([])
    first.apply(events[:cut])
    second = Devices(first)
    second.apply(events[cut:])
    assert sorted(whole, key=lambda each: each.key) == sorted(second, key=lambda each: each.key)
    tokens = [each.token for each in whole if each.token is not None]
    assert len(tokens) == len(set(tokens))
