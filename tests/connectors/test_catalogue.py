"""The connectors that exist, as the documentation lists them."""

import pytest

from headwater.connectors.catalogue import CONNECTORS
from headwater.connectors.connector import Capabilities

ON_A_DEVICE = {"android", "ios", "javascript"}


def test_the_codes_are_sorted() -> None:
    assert list(CONNECTORS) == [
        "android",
        "client",
        "dotnet",
        "go",
        "http",
        "ios",
        "java",
        "javascript",
        "nodejs",
        "python",
    ]


@pytest.mark.parametrize("code", CONNECTORS)
def test_each_is_an_sdk_that_users_and_events_come_from(code: str) -> None:
    connector = CONNECTORS[code]
    assert connector.code == code
    assert connector.label
    assert connector.type == "SDK"
    assert connector.source == Capabilities(targets=("User", "Event"))
    assert connector.destination is None


@pytest.mark.parametrize("code", CONNECTORS)
def test_only_sdks_on_devices_have_strategies_and_fall_back_to_the_request_ip(code: str) -> None:
    assert CONNECTORS[code].strategies is (code in ON_A_DEVICE)
    assert CONNECTORS[code].falls_back_to_request_ip is (code in ON_A_DEVICE)


@pytest.mark.parametrize("code", CONNECTORS)
def test_only_the_client_api_has_public_keys(code: str) -> None:
    assert CONNECTORS[code].public_key is (code == "client")


def test_labels_that_are_not_the_obvious_capitalisation() -> None:
    labels = {code: CONNECTORS[code].label for code in ("dotnet", "ios", "nodejs")}
    assert labels == {"dotnet": ".NET", "ios": "iOS", "nodejs": "Node.js"}
