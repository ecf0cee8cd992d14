"""The OpenAPI document describes the API correctly: generated requests, valid and invalid ones, through real Envoy.

For every request the document has the status of the response (500 is in none), and the response has the content type
and the schema of that status. HEADWATER_SCHEMATHESIS_EXAMPLES sets the number of requests of a call. With PostgreSQL it
is half of it: documents and checks are those of SQLite.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from tests.e2e.source import Source, get, make_source, post
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start
from tests.test_openapi import OPERATIONS

EXAMPLES = int(os.environ.get("HEADWATER_SCHEMATHESIS_EXAMPLES", "4"))
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
LAST = ("DELETE /v1/workspaces/current", "DELETE /v1/keys/{id}")
"""Calls that delete data which the others need."""
ENDLESS = ("GET /v1/events/watch",)
"""Calls that have no end of their own."""
SELECTING = ("/v1/events", "/v1/profiles/{kpid}/events")
"""Lists of events, which omit required members if `properties` does not name them."""
NAMES = sorted(OPERATIONS.keys() - ENDLESS, key=lambda name: (name in LAST, name))


@dataclass(frozen=True)
class Target:
    """A running system and its OpenAPI document."""

    system: RunningSystem
    schema: Any
    examples: int
    """Requests of a call."""

    def authorization(self, operation: dict[str, Any], source: Source) -> dict[str, str]:
        """Return the credentials that an operation requires."""
        schemes = [scheme for security in operation["security"] for scheme in security]
        if "apiKey" in schemes:
            return self.system.authorization
        return {"authorization": f"Bearer {source.write_key}"} if schemes else {}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Start a separate system for each database: generated requests delete and disable data."""
    variables = {}
    if request.param == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        variables["HEADWATER_DATABASE_URL"] = server.create(empty=True)
    running = start(tmp_path_factory.mktemp(f"schemathesis-{request.param}") / "data", None, **variables)
    examples = EXAMPLES if request.param == "sqlite" else max(1, EXAMPLES // 2)
    yield Target(running, schemathesis.openapi.from_url(f"{running.base_url}/v1/openapi.json"), examples)
    assert running.stop() == 0, running.errors
    assert "Traceback" not in running.errors, running.errors


@pytest.mark.timeout(60 + 5 * EXAMPLES)
@pytest.mark.parametrize("name", NAMES)
def test_a_call_conforms_to_the_document(target: Target, name: str) -> None:
    verb, _, path = name.partition(" ")
    operation = target.schema[path][verb]
    source = make_source(target.system)
    headers = target.authorization(operation.definition.raw, source)
    is_built = any(status < "300" for status in operation.definition.raw["responses"])
    modes = [mode for mode in schemathesis.GenerationMode if _can_be(mode, operation)]

    @settings(
        max_examples=target.examples if is_built else 2,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def send(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from(modes))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if data.draw(st.booleans(), label="of something that exists"):
            _name_existing(case, source)
        if case.query and operation.path in SELECTING:
            case.query.pop("properties", None)
        sent = {name: value for name, value in headers.items() if name not in {n.lower() for n in case.headers or {}}}
        response = case.call(base_url=target.system.base_url, headers=sent, timeout=20)
        case.validate_response(response, checks=CHECKS)

    send()


def _can_be(mode: schemathesis.GenerationMode, operation: Any) -> bool:
    """Return whether the operation has parameters, without which no request is invalid."""
    raw = operation.definition.raw
    return mode is schemathesis.GenerationMode.POSITIVE or "parameters" in raw or "requestBody" in raw


def _name_existing(case: Any, source: Source) -> None:
    """Set the path to existing objects: otherwise every call would return 404."""
    is_pipeline = case.operation.path.startswith("/v1/pipelines/")
    existing = {
        "id": source.event_pipeline if is_pipeline else source.id,
        "source": source.id,
        "key": source.write_key,
        "writeKey": source.write_key,
    }
    for name in case.path_parameters or {}:
        if name in existing:
            case.path_parameters[name] = existing[name]
    if isinstance(case.body, dict) and "connection" in case.body:
        case.body["connection"] = source.id


def test_every_example_of_the_document_is_accepted(target: Target) -> None:
    source = make_source(target.system)
    executed = set()
    with httpx.Client(base_url=target.system.base_url, timeout=20) as client:
        for name, operation in OPERATIONS.items():
            verb, _, path = name.partition(" ")
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                identifier = source.event_pipeline if "/pipelines/" in path else source.id
                response = client.request(
                    verb,
                    path.replace("{id}", str(identifier)),
                    json=_fill_example(source, example["value"], str(operation["operationId"])),
                    headers={"x-strict-mode": "1", **target.authorization(operation, source)},
                )
                assert response.is_success, (name, response.text)
                executed.add(operation["operationId"])
    assert {"createConnection", "createPipeline", "track"} <= executed


def _fill_example(source: Source, value: Any, operation: str) -> Any:
    """Return the body with the ids of this test. A new pipeline of events needs a new source."""
    if operation == "createApiKey":
        return {**value, "workspace": get(source.system, "/v1/workspaces/current")["id"]}
    if operation == "createPipeline":
        created = post(source.system, "/v1/connections", {"name": "Shop", "role": "Source", "connector": "http"})
        return {**value, "connection": created["id"]}
    return value
