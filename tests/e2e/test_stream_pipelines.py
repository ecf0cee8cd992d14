"""Filters and mappings of pipelines, on events that come through the gateway."""

from typing import Any

import httpx
import pytest

from tests.e2e.source import get, make_source, post
from tests.system import HTTP, RunningSystem, wait_until

ORDERS = {
    "logical": "and",
    "conditions": [
        {"property": "type", "operator": "is", "values": ["track"]},
        {"property": "properties.total", "operator": "is greater than", "values": ["10"]},
    ],
}


def _connection(system: RunningSystem) -> tuple[int, str]:
    connection = post(system, "/v1/connections", {"name": "Shop", "role": "Source", "connector": "http"})["id"]
    return connection, get(system, f"/v1/connections/{connection}/event-write-keys")["keys"][0]


def test_a_filter_decides_what_is_stored(system: RunningSystem) -> None:
    source = make_source(system)
    post_ = {"connection": source.id, "target": "User", "name": "Buyers", "enabled": True, "filter": ORDERS}
    buyers = post(system, "/v1/pipelines", post_)["id"]
    assert get(system, f"/v1/pipelines/{buyers}")["filter"] == ORDERS
    source.send("track", {"userId": "small", "event": "Order", "properties": {"total": 9.99}})
    source.send("track", {"userId": "large", "event": "Order", "properties": {"total": 10.01}})
    source.wait_for(2)
    seen = {(identity["userId"], identity["pipeline"]) for identity in source.identities()}
    assert seen == {("small", source.user_pipeline), ("large", source.user_pipeline), ("large", buyers)}


def test_an_event_pipeline_with_a_filter_stores_what_passes(system: RunningSystem) -> None:
    connection, key = _connection(system)
    body = {"connection": connection, "target": "Event", "name": "Orders", "enabled": True, "filter": ORDERS}
    post(system, "/v1/pipelines", body)
    for total in (1, 100):
        event = {"userId": "u", "event": "Order", "messageId": f"order-{total}", "properties": {"total": total}}
        HTTP.post(f"{system.base_url}/v1/track", json=event, auth=(key, "")).raise_for_status()

    def stored() -> list[Any]:
        events = get(system, "/v1/events?limit=1000")["events"]
        return [event["messageId"] for event in events if event["connectionId"] == connection]

    wait_until(lambda: stored() == ["order-100"], 60)


@pytest.mark.parametrize("expression", ["lower(traits.email)", "coalesce(traits.email, 'nobody')"])
def test_a_mapping_sets_the_traits_of_users(system: RunningSystem, expression: str) -> None:
    connection, _ = _connection(system)
    schema = {
        "kind": "object",
        "properties": [{"name": "email", "type": {"kind": "string"}, "readOptional": True, "description": ""}],
    }
    body = {
        "connection": connection,
        "target": "User",
        "name": "People",
        "enabled": True,
        "outSchema": schema,
        "transformation": {"mapping": {"email": expression}, "function": None},
    }
    pipeline = get(system, f"/v1/pipelines/{post(system, '/v1/pipelines', body)['id']}")
    assert pipeline["transformation"]["mapping"] == {"email": expression}
    assert pipeline["outSchema"]["properties"][0]["name"] == "email"


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("JavaScript", "function transform(event) { return {email: event.traits.email.toUpperCase()}; }"),
        ("Python", "def transform(event):\n    return {'email': event['traits']['email'].upper()}\n"),
    ],
)
def test_functions_transform_and_an_endless_one_delays_no_other(
    system: RunningSystem, language: str, source: str
) -> None:
    endless = {
        "JavaScript": "function transform(event) { for (;;); }",
        "Python": "def transform(event):\n    while True:\n        pass\n",
    }[language]
    assert language in get(system, "/v1/system/transformations/languages")["languages"]
    shop = make_source(system)
    pipelines = [_function_pipeline(system, shop.id, language, text) for text in (source, endless)]
    shop.send("identify", {"userId": "ada", "traits": {"email": "ada@example.com"}})
    shop.wait_for(1)
    wait_until(lambda: {one["pipeline"] for one in shop.identities()} == {shop.user_pipeline, pipelines[0]}, 20)


def test_a_transformation_can_be_tried_before_it_is_saved(system: RunningSystem) -> None:
    schema = {"kind": "object", "properties": [{"name": "n", "type": {"kind": "int", "bitSize": 32}}]}
    function = {"language": "JavaScript", "inPaths": ["n"], "outPaths": ["n"]}
    trial = {"data": {"n": 20}, "inSchema": schema, "outSchema": schema, "purpose": "Import"}

    def tried(**transformation: Any) -> httpx.Response:
        body = {**trial, "transformation": transformation}
        return HTTP.post(f"{system.base_url}/v1/transformations", json=body, headers=system.authorization, timeout=30)

    assert tried(mapping={"n": "n"}).json() == {"data": {"n": 20}}
    doubled = tried(function={**function, "source": "function transform(r) { return {n: 2 * r.n}; }"})
    assert doubled.json() == {"data": {"n": 40}}
    failed = tried(function={**function, "source": "function transform(r) { throw new Error('no'); }"})
    assert (failed.status_code, failed.json()["error"]["code"]) == (422, "TransformationFailed")


def _function_pipeline(system: RunningSystem, connection: int, language: str, source: str) -> int:
    schema = {
        "kind": "object",
        "properties": [{"name": "email", "type": {"kind": "string"}, "readOptional": True, "description": ""}],
    }
    function = {
        "language": language,
        "source": source,
        "preserveJSON": False,
        "inPaths": ["traits"],
        "outPaths": ["email"],
    }
    body = {
        "connection": connection,
        "target": "User",
        "name": language,
        "enabled": True,
        "outSchema": schema,
        "transformation": {"mapping": None, "function": function},
    }
    created: int = post(system, "/v1/pipelines", body)["id"]
    return created
