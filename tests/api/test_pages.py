"""The `first`, `limit` and page tokens of lists."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.api.pages import NO_LIMIT, Page
from headwater.base.errors import BadRequest
from headwater.v1 import connections_pb2, devices_pb2

MAX_INT = 2**31 - 1


def devices(**fields: Any) -> devices_pb2.ListDevicesRequest:
    return devices_pb2.ListDevicesRequest(**fields)


@pytest.mark.parametrize(
    ("fields", "first", "limit"),
    [
        ({}, 0, 100),
        ({"first": 0, "limit": 1}, 0, 1),
        ({"first": 7}, 7, 100),
        ({"limit": 1000}, 0, 1000),
        ({"first": MAX_INT, "limit": 5}, MAX_INT, 5),
    ],
    ids=str,
)
def test_the_limit_has_a_default_and_a_maximum(fields: dict[str, int], first: int, limit: int) -> None:
    page = Page(devices(**fields), int)
    assert (page.first, page.limit, page.after) == (first, limit, None)


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"first": -1}, "first", "first must be 0 or greater"),
        ({"limit": 0}, "limit", "limit must be in the range from 1 to 1000"),
        ({"limit": -1}, "limit", "limit must be in the range from 1 to 1000"),
        ({"limit": 1001}, "limit", "limit must be in the range from 1 to 1000"),
    ],
    ids=str,
)
def test_values_out_of_range_are_rejected(fields: dict[str, int], field: str, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        Page(devices(**fields), int)
    assert (raised.value.field, raised.value.message) == (field, message)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=50).map(sorted),
    st.integers(1, 20),
    st.sets(st.integers(0, 49)),
)
def test_pages_have_every_item_once_while_the_list_changes(items: list[int], limit: int, removed: set[int]) -> None:
    found: list[int] = []
    token = ""
    remaining = items
    while True:
        page = Page(devices(limit=limit, page_token=token), int)
        shown, token = page.select(remaining, lambda item: item)
        assert len(shown) <= limit
        found += shown
        if not token:
            break
        # A returned item may be deleted: no other item moves to another page.
        remaining = [item for index, item in enumerate(items) if index not in removed or item not in found]
    assert found == items


def test_a_list_without_limits_is_one_page() -> None:
    page = Page(connections_pb2.ListConnectionsRequest(), int, default_limit=NO_LIMIT)
    assert page.select(range(5000), lambda item: item) == (range(5000), "")


def make_token(**fields: Any) -> str:
    return Page(devices(**fields), int).token(7)


def test_a_token_is_of_its_request_whatever_the_limit() -> None:
    token = make_token(user_id="u", limit=5)
    assert Page(devices(user_id="u", limit=9, page_token=token), int).after == 7


TOKEN = make_token(user_id="u")
DATA = urlsafe_b64decode(TOKEN + "==")


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "other", "page_token": TOKEN},
        {"page_token": TOKEN},
        {"user_id": "u", "page_token": TOKEN[:-2]},
        {"user_id": "u", "page_token": TOKEN + "AAAA"},
        {"user_id": "u", "page_token": "x"},
        {"user_id": "u", "page_token": "é"},
        {"user_id": "u", "page_token": "A" * 100_000},
        {"user_id": "u", "page_token": urlsafe_b64encode(DATA[:-1] + b"\x08").decode()},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_another_token_is_rejected(fields: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as raised:
        Page(devices(**fields), int)
    assert raised.value.message == "pageToken must be the nextPageToken of a response to the same request"
    assert raised.value.field == "pageToken"


def test_a_token_of_another_list_or_form_is_rejected() -> None:
    token = Page(connections_pb2.ListConnectionsRequest(), int, default_limit=NO_LIMIT).token(7)
    with pytest.raises(BadRequest):
        Page(devices(page_token=token), int)
    with pytest.raises(BadRequest):
        Page(devices(user_id="u", page_token=TOKEN), str)


def test_first_goes_with_no_token() -> None:
    with pytest.raises(BadRequest, match="first cannot be combined with pageToken"):
        Page(devices(user_id="u", first=1, page_token=TOKEN), int)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_valid_or_rejected_token(data: bytes) -> None:
    with pytest.raises(BadRequest):
        Page(devices(page_token=urlsafe_b64encode(b"x" + data).decode()), int)
