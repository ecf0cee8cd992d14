"""The profile schema and the settings of identity resolution over REST, through the gateway and with a real worker."""

import json
from typing import Any

import pytest

from tests.e2e.source import get
from tests.e2e.test_management import read_error, send
from tests.system import HTTP, RunningSystem, wait_until
from tests.tenants import add_tenant

SCHEMA, PREVIEW = "/v1/profiles/schema", "/v1/profiles/schema/preview"
LATEST, SUITABLE = "/v1/profiles/schema/latest-alter", "/v1/profiles/schema/suitable-as-identifiers"
SETTINGS = "/v1/identity-resolution/settings"
EMAIL = {"name": "email", "type": {"kind": "string"}, "readOptional": True}
AGE = {"name": "age", "type": {"kind": "int", "bitSize": 32}, "readOptional": True}


UNKNOWN_MEMBER = "schema has the unknown member"
NESTED = {"name": "a", "type": {"kind": "object", "properties": [{**EMAIL, "type": {"maxlength": 3}}]}}


def schema(*properties: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "object", "properties": list(properties)}


def names(found: dict[str, Any]) -> list[str]:
    return [each["name"] for each in found["properties"]]


def put(system: RunningSystem, path: str, body: Any) -> Any:
    """Send a request that must succeed; return the body, or None for an empty one."""
    response = send(system, "PUT", path, body)
    assert response.status_code == 200, response.text
    return response.json() if response.content else None


@pytest.fixture(scope="module")
def tenant(system: RunningSystem) -> RunningSystem:
    """A workspace of its own."""
    return add_tenant(system, "Profiles")


@pytest.fixture(scope="module")
def empty(system: RunningSystem) -> RunningSystem:
    """A workspace without a schema."""
    return add_tenant(system, "Empty")


def test_the_schema_and_the_settings_from_first_to_last(tenant: RunningSystem) -> None:
    def wait_for_the_end() -> None:
        wait_until(lambda: bool(get(tenant, LATEST).get("endTime")), timeout_seconds=30)
        assert not get(tenant, LATEST).get("error")

    assert get(tenant, SCHEMA)["kind"] == "object"
    put(tenant, SCHEMA, {"schema": schema(EMAIL, AGE)})
    wait_for_the_end()
    assert names(get(tenant, SCHEMA)) == names(get(tenant, SUITABLE)) == ["email", "age"]
    put(tenant, SETTINGS, {"runOnBatchImport": True, "identifiers": ["email"]})
    settings = get(tenant, SETTINGS)
    assert (settings["runOnBatchImport"], settings["identifiers"]) == (True, ["email"])
    workspace = get(tenant, "/v1/workspaces/current")
    assert (names(workspace["profileSchema"]), workspace["identifiers"]) == (["email", "age"], ["email"])
    wait_until(lambda: bool(get(tenant, "/v1/identity-resolution/latest").get("endTime")), timeout_seconds=30)
    renamed = {"schema": schema({**EMAIL, "name": "mail"}, AGE), "rePaths": {"mail": "email"}}
    preview = put(tenant, PREVIEW, renamed)
    assert preview == {"queries": ["RENAME email TO mail", "RENAME IDENTIFIER email TO mail", "RESOLVE IDENTITIES"]}
    put(tenant, SCHEMA, renamed)
    wait_for_the_end()
    assert get(tenant, SETTINGS)["identifiers"] == ["mail"]
    guards = [{"identifier": "mail", "blockedPresets": ["EmptyWords"], "maxIdentities": 3}]
    found = put(tenant, SETTINGS, {"identifiers": ["mail"], "guards": guards, "validateOnly": True})
    assert found["preview"]["profilesAfter"] == found["preview"]["profilesBefore"] == 0
    assert get(tenant, SETTINGS).get("guards", []) == []
    replaced = {"schema": schema({**AGE, "name": "mail"}, AGE), "rePaths": {"mail": None}}
    assert read_error(send(tenant, "PUT", SCHEMA, replaced)) == (422, "InvalidAlterSchema")
    # A PUT replaces all settings: absent members become their defaults.
    wait_until(lambda: bool(get(tenant, "/v1/identity-resolution/latest").get("endTime")), timeout_seconds=30)
    put(tenant, SETTINGS, {"runOnBatchImport": True, "identifiers": ["mail"], "guards": guards})
    wait_until(lambda: bool(get(tenant, "/v1/identity-resolution/latest").get("endTime")), timeout_seconds=30)
    put(tenant, SETTINGS, {})
    cleared = get(tenant, SETTINGS)
    assert (cleared["runOnBatchImport"], cleared["identifiers"], cleared.get("guards", [])) == (False, [], [])


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (SCHEMA, {}, 400, "BadRequest"),
        (SCHEMA, {"schema": None}, 400, "BadRequest"),
        (SCHEMA, {"schema": []}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema()}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema(EMAIL, {**AGE, "name": "Email"})}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema(EMAIL), "rePaths": []}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema(EMAIL), "rePaths": {"email": "email"}}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema(EMAIL), "rePaths": {"email": {}}}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema(EMAIL), "primarySources": {"email": "x"}}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema(EMAIL), "primarySources": {"email": 2**31}}, 400, "BadRequest"),
        (SCHEMA, {"schema": schema(EMAIL), "primarySources": {"email": 7}}, 422, "ConnectionNotExist"),
        (SCHEMA, {"schema": schema({**AGE, "name": "x"}), "rePaths": {"x": "y"}}, 422, "InvalidAlterSchema"),
        (PREVIEW, {}, 400, "BadRequest"),
        (SETTINGS, {"identifiers": ["email", "email"]}, 400, "BadRequest"),
        (SETTINGS, {"identifiers": [], "guards": [{"identifier": "x"}]}, 400, "BadRequest"),
        (SETTINGS, {"identifiers": ["nosuch"]}, 422, "PropertyNotExist"),
        (SETTINGS, {"identifiers": ["nosuch"], "validateOnly": True}, 422, "PropertyNotExist"),
    ],
)
def test_invalid_bodies(empty: RunningSystem, path: str, body: Any, status: int, code: str) -> None:
    """A workspace without a schema refuses them, and stays without one."""
    assert read_error(send(empty, "PUT", path, body)) == (status, code)
    assert get(empty, SCHEMA).get("properties", []) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"identifiers": "email"}', "identifiers must be an array"),
        ('{"identifiers": 5}', "identifiers must be an array"),
        ('{"identifiers": {"email": 1}}', "identifiers must be an array"),
        ('{"identifiers": [null]}', "identifiers must not have null as an element"),
        ('{"identifiers": ["email", null]}', "identifiers must not have null as an element"),
        ('{"guards": {"identifier": "email"}}', "guards must be an array"),
        ('{"guards": [null]}', "guards must not have null as an element"),
        ('{"guards": [{"blockedValues": "a"}]}', "blockedValues must be an array"),
        ('{"guards": [{"blockedPresets": [null]}]}', "blockedPresets must not have null as an element"),
        ("", "the body must be a JSON object"),
        ('{"primarySources": []}', "primarySources must be an object"),
        (json.dumps({"schema": schema({**EMAIL, "readOptionnal": True})}), f"{UNKNOWN_MEMBER} readOptionnal"),
        (json.dumps({"schema": {**schema(EMAIL), "propertys": []}}), f"{UNKNOWN_MEMBER} propertys"),
        (json.dumps({"schema": schema(NESTED), "rePaths": {"x": None}}), f"{UNKNOWN_MEMBER} maxlength"),
    ],
)
def test_a_list_is_not_misread(empty: RunningSystem, body: str, message: str) -> None:
    """The gateway takes a value for a list, and leaves out null: then the identifiers would be others, or none."""
    paths = [SCHEMA] if "primarySources" in body else [SCHEMA, PREVIEW] if "schema" in body else [SETTINGS]
    for path in paths:
        response = HTTP.put(empty.base_url + path, content=body, headers={"authorization": f"Bearer {empty.api_key}"})
        assert read_error(response) == (400, "BadRequest")
        error = response.json()["error"]
        assert error["message"] == message
        assert error.get("field") == (None if message.startswith("the body") else message.partition(" ")[0])


def test_names_and_texts_of_a_schema_are_no_members(empty: RunningSystem) -> None:
    described = {**EMAIL, "name": "propertys", "description": '"x": {"y": [1]} : \\" ":'}
    wanted = {"schema": schema(described, AGE), "rePaths": {}, "unknown": {"x": 1}}
    assert put(empty, PREVIEW, wanted)["queries"]


def test_a_text_like_a_list_is_a_text(empty: RunningSystem) -> None:
    for text in ("null", "],[null]", '"identifiers":5', "identifiers", "a\\"):
        guards = [{"identifier": "email", "blockedValues": [text, "x"]}]
        found = send(empty, "PUT", SETTINGS, {"identifiers": ["email"], "guards": guards, "validateOnly": True})
        assert read_error(found) == (422, "PropertyNotExist")
