"""The http rules of the protos are the routes: each RPC with a raw body has its path, and no other path is routed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api.annotations_pb2 import http
from google.protobuf.descriptor import MethodDescriptor

from headwater.api import Services, ingest_router
from headwater.api.ingest import IngestHandler, IngestRequest, IngestResponse
from headwater.api.ingest_http import Router
from headwater.rest.v1 import client_pb2, connections_pb2, native_events_pb2, track_pb2
from tests.harness import open_harness

SERVICES = [
    file.DESCRIPTOR.services_by_name[name]
    for file, name in (
        (track_pb2, "TrackService"),
        (native_events_pb2, "NativeEventService"),
        (client_pb2, "ClientService"),
    )
]


def rules(method: MethodDescriptor) -> Iterator[Any]:
    rule = method.GetOptions().Extensions[http]
    yield from (rule, *rule.additional_bindings)


ROUTES = [
    (f"{service.name}.{method.name}", rule.post)
    for service in SERVICES
    for method in service.methods
    for rule in rules(method)
    if rule.post
]


def naming(name: str) -> IngestHandler:
    """Return a handler whose response has this name, and the request's body and variables."""

    async def handle(request: IngestRequest) -> IngestResponse:
        return IngestResponse(f"{name} {request.body.decode()} {dict(request.variables)}".encode())

    return handle


@pytest.fixture
def router() -> Router:
    router = Router()
    for service in SERVICES:
        names = {route.partition(".")[2] for route, _ in ROUTES if route.startswith(f"{service.name}.")}
        router.add(service.full_name, {name: naming(f"{service.name}.{name}") for name in names})
    return router


async def respond(router: Router, path: str) -> str:
    found = router.find(path)
    assert found is not None, path
    handler, variables = found
    request = IngestRequest(body=b"body", content_type="text/csv", headers=(), metadata={}, variables=variables)
    return (await handler(request)).body.decode()


@pytest.mark.parametrize(("name", "path"), ROUTES, ids=[path for _, path in ROUTES])
async def test_every_post_of_the_protocols_has_a_handler(router: Router, name: str, path: str) -> None:
    variables = {"type": "track"} if "{type}" in path else {}
    assert await respond(router, path.replace("{type}", "track")) == f"{name} body {variables}"


async def test_the_server_routes_all_of_them(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        router = ingest_router(
            Services(
                harness.catalog,
                harness.intake,
                harness.state,
                harness.warehouse,
                harness.functions,
                harness.log,
                harness.store,
                harness.clock,
                harness.deliveries,
                harness.operations,
                harness.runs,
            )
        )
    assert ROUTES
    assert [path for _, path in ROUTES if router.find(path) is None] == []


@pytest.mark.parametrize(
    ("segment", "type_"),
    [("track", "track"), ("tr%61ck", "track"), ("a%2Fb", "a/b"), ("%C3%A9", "é"), ("%FF", "\N{REPLACEMENT CHARACTER}")],
)
def test_a_variable_is_one_segment_of_the_path(router: Router, segment: str, type_: str) -> None:
    found = router.find(f"/v1/events/{segment}")
    assert found is not None
    assert found[1] == {"type": type_}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1",
        "/v1/track/",
        "/V1/track",
        "/v1/track/x",
        "/v1/events/",
        "/v1/events/a/b",
        "/v1/events/settings/key",
        "/v1/projects/key/settings",
        "/projects/key/settings",
        "/headwater.rest.v1.TrackService/Track",
        "*",
    ],
)
def test_other_paths_have_no_handler(router: Router, path: str) -> None:
    assert router.find(path) is None


def test_a_call_without_a_raw_body_cannot_be_routed() -> None:
    service = connections_pb2.DESCRIPTOR.services_by_name["ConnectionService"]
    with pytest.raises((AssertionError, KeyError)):
        Router().add(service.full_name, {"ListConnections": naming("ListConnections")})
