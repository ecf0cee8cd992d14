"""Management calls of one workspace do not slow down another: computing, trials, limits and read-only keys."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio

from headwater.api import ERROR_BODIES, ErrorInterceptor, Services, register
from headwater.api.admission import is_reading
from headwater.api.offloop import SMALL_BYTES
from headwater.base.computing import open_computing
from headwater.catalog import Definition, TransformationDefinition, api_key_digest
from headwater.intake import RateLimit, RateLimiter
from headwater.management.api_keys import create_api_key
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.rest.v1 import connections_pb2 as rest_connections_pb2
from headwater.schemas import parse_schema
from headwater.transforms.functions import Runner
from headwater.v1 import api_keys_pb2, connections_pb2, filters_pb2, transformations_pb2, workspaces_pb2
from tests.api.conftest import RESTRICTED, UNRESTRICTED, Api, CallError
from tests.harness import Harness, add_source, add_workspace

STRING = {"kind": "string"}
PERSON = {"kind": "object", "properties": [{"name": "email", "type": STRING}]}
ENDLESS = {"JavaScript": "function transform(x) { while (true) {} }", "Python": "def transform(x):\n  while True: pass"}
TRIVIAL = {"JavaScript": "function transform(x) { return x }", "Python": "def transform(x):\n  return x"}
BURST = 5
ATTEMPTS = 3
"""Number of measurements of a standstill: other work of the machine makes one longer, and never shorter."""


def trial(language: str, source: str) -> HttpBody:
    function = {"language": language, "source": source, "inPaths": ["email"], "outPaths": ["email"]}
    body = {"data": {"email": "e"}, "inSchema": PERSON, "outSchema": PERSON, "transformation": {"function": function}}
    return HttpBody(data=json.dumps(body).encode())


def body(document: object) -> HttpBody:
    return HttpBody(data=json.dumps(document).encode())


def nested(depth: int, of: str) -> str:
    return "lower(" * depth + of + ")" * depth


def of_size(make: Callable[[int], Any], size: int) -> Any:
    """Return the largest of the requests that is not larger than `size`."""
    high = 1
    while make(high).ByteSize() <= size:
        high *= 2
    low = high // 2
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if make(middle).ByteSize() <= size else (low, middle - 1)
    return make(low)


def properties(count: int) -> HttpBody:
    return body({"expressions": [{"value": nested(99, "email"), "type": STRING}] * count, "schema": PERSON})


def mapping(count: int) -> HttpBody:
    """Return a mapping with many properties of many parts, up to the limits of a mapping, and then with larger data."""
    names = [f"p{number}" for number in range(min(count, 300))]
    schema = {"kind": "object", "properties": [{"name": name, "type": STRING} for name in names]}
    transformation = {"mapping": dict.fromkeys(names, nested(14, "email"))}
    data = {"email": "x" * max(0, count - len(names))}
    return body({"data": data, "inSchema": PERSON, "outSchema": schema, "transformation": transformation})


def explained(count: int) -> HttpBody:
    conditions = [{"property": "context.ip", "operator": "is not", "values": ["1.2.3.4"]}] * count
    return body({"filter": {"logical": "and", "conditions": conditions}, "event": {"type": "track", "event": "x"}})


def filter_text(count: int) -> filters_pb2.ParseFilterRequest:
    return filters_pb2.ParseFilterRequest(text="a is one of 1" + ",1" * count)


EXPENSIVE: dict[str, tuple[str, Callable[[int], Any]]] = {
    "properties": ("rest.TransformationService/ListExpressionProperties", properties),
    "mapping": ("rest.TransformationService/TransformData", mapping),
    "explain": ("rest.FilterService/ExplainFilter", explained),
    "parse": ("FilterService/ParseFilter", filter_text),
}


async def served(harness: Harness, given: Services, limiter: RateLimiter | None = None) -> tuple[aio.Server, Api]:
    server = aio.server(interceptors=[ErrorInterceptor(ERROR_BODIES, limiter=limiter)])
    register(server, given)
    address = f"unix:{harness.folder}/contained.sock"
    server.add_insecure_port(address)
    await server.start()
    return server, Api(harness, aio.insecure_channel(address))


def make_services(harness: Harness) -> Services:
    """Return the dependencies of the servicers, without processes for computing."""
    return Services(
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


@pytest.fixture
async def contained(harness: Harness) -> AsyncIterator[Api]:
    """Start a server as the backend does: with processes for computing, and with shares of sandboxes."""
    async with (
        open_computing(2, modules=["headwater.api.register"]) as computing,
        Runner(javascript=2, python=2, per_owner=1, max_waiting=4) as functions,
    ):
        given = replace(make_services(harness), functions=functions, computing=computing)
        server, api = await served(harness, given)
        yield api
        await api.channel.close()
        await server.stop(None)


@pytest.fixture
async def other(harness: Harness) -> str:
    """Create another workspace, B, and return its key."""
    workspace = await add_workspace(harness.catalog, "B")
    return (await create_api_key(harness.catalog, None, "B", workspace.id)).token


class Ticker:
    """Measures the longest standstill of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> "Ticker":
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.0005)
            self.longest = max(self.longest, time.perf_counter() - before)


@pytest.mark.parametrize("case", EXPENSIVE)
async def test_expensive_calls_of_a_do_not_hold_up_b(api: Api, contained: Api, other: str, case: str) -> None:
    """The loop stands still for a fraction of the time that the same call takes when it is computed on the loop."""
    method, make = EXPENSIVE[case]
    request = of_size(make, 150_000)
    async with Ticker() as on_the_loop:  # `api` has no processes
        expected = await api.call(method, request)
    await contained.call(method, request)  # the process starts
    stalls = []
    for _ in range(ATTEMPTS):
        async with Ticker() as large:
            response = await contained.call(method, request)
            listed = await contained.call(
                "ConnectionService/ListConnections", connections_pb2.ListConnectionsRequest(), key=other
            )
        async with Ticker() as small:  # the part that is always computed on the loop
            await contained.call(method, of_size(make, SMALL_BYTES))
        assert response == expected
        assert listed == connections_pb2.ListConnectionsResponse()
        stalls.append(max(large.longest, small.longest))
    assert min(stalls) < on_the_loop.longest / 2


async def test_large_connections_of_a_do_not_hold_up_b(api: Api, contained: Api) -> None:
    """The same for reads whose response takes long to encode, alone and in lists."""
    harness = api.harness
    source = await add_source(harness.catalog, harness.workspace, events=None, users=())
    names = [f"property_{number}" for number in range(1_000)]
    listed = [{"name": name, "type": STRING, "readOptional": True} for name in names]
    schema = parse_schema(json.dumps({"kind": "object", "properties": listed}))
    transformation = TransformationDefinition(mapping=dict.fromkeys(names, "userId"))
    pipeline = CreatePipeline(
        connection=source.id,
        target="User",
        name="Wide",
        out_schema=schema,
        definition=Definition(transformation=transformation),
    )
    for _ in range(4):
        await create_pipeline(harness.catalog, harness.workspace, pipeline)
    get = connections_pb2.GetConnectionRequest(id=source.id)
    list_json = rest_connections_pb2.ListConnectionsRequest()
    for method, request in (
        ("ConnectionService/GetConnection", get),
        ("rest.ConnectionService/ListConnections", list_json),
    ):
        async with Ticker() as on_the_loop:
            expected = await api.call(method, request)
        stalls = []
        for _ in range(ATTEMPTS):
            async with Ticker() as large:
                response = await contained.call(method, request)
            stalls.append(large.longest)
        if isinstance(response, HttpBody):  # members of a map come in any order
            response, expected = json.loads(response.data), json.loads(expected.data)
        assert response == expected
        assert min(stalls) < on_the_loop.longest / 2


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
async def test_endless_trials_of_a_do_not_hold_up_trials_of_b(contained: Api, other: str, language: str) -> None:
    method = "rest.TransformationService/TransformData"
    trivial, endless = trial(language, TRIVIAL[language]), trial(language, ENDLESS[language])
    assert json.loads((await contained.call(method, trivial, key=other)).data) == {"data": {"email": "e"}}
    flood = [asyncio.create_task(contained.call(method, endless)) for _ in range(8)]
    done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)  # one runs, four wait
    assert {task.result().reason for task in done} == {"TooManyRequests"}
    assert json.loads((await contained.call(method, trivial, key=other)).data) == {"data": {"email": "e"}}
    assert sum(not task.done() for task in flood) >= 4, "B does not wait for any trial of A"
    failed = await next(task for task in flood if not task.done())
    assert (failed.reason, "longer than 2 s" in failed.message or "too long" in failed.message) == (
        "TransformationFailed",
        True,
    )
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_the_bounds_name_the_field_and_the_rule(api: Api) -> None:
    many = {"expressions": [{"value": "email", "type": STRING}] * 10_001, "schema": PERSON}
    failed = await api.call("rest.TransformationService/ListExpressionProperties", body(many))
    assert (failed.metadata, failed.message) == (
        (("field", "expressions"),),
        "expressions must have at most 10000 expressions",
    )
    expression = transformations_pb2.ListExpressionPropertiesRequest.Expression(value="x" * 50_000)
    long = transformations_pb2.ListExpressionPropertiesRequest(expressions=[expression] * 6)
    failed = await api.call("TransformationService/ListExpressionProperties", long)
    assert "250000 characters together" in failed.message
    failed = await api.call("FilterService/ParseFilter", filter_text(10_000))
    assert "must have at most 10000 values" in failed.message
    conditions = filters_pb2.ParseFilterRequest(text=" and ".join(["a is null"] * 5_001))
    failed = await api.call("FilterService/ParseFilter", conditions)
    assert "must have at most 5000 conditions" in failed.message


@pytest.fixture
async def limited(harness: Harness) -> AsyncIterator[Api]:
    limiter = RateLimiter(harness.clock, key=RateLimit(1, BURST), unit="calls")
    given = make_services(harness)
    server, api = await served(harness, given, limiter)
    yield api
    await api.channel.close()
    await server.stop(None)


async def test_calls_of_a_key_are_limited_and_those_of_others_are_not(limited: Api, other: str) -> None:
    method, request = "ConnectionService/ListConnections", connections_pb2.ListConnectionsRequest()
    for _ in range(BURST):
        assert not isinstance(await limited.call(method, request), CallError)
    failed = await limited.call(method, request)
    assert (failed.status, failed.reason) == ("RESOURCE_EXHAUSTED", "TooManyRequests")
    assert failed.message == "the key sends more than 1 calls a second"
    assert {"retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= set(failed.trailers)
    parse = filters_pb2.ParseFilterRequest(text="")
    assert (await limited.call("FilterService/ParseFilter", parse)).reason == "TooManyRequests", "each call counts"
    assert not isinstance(await limited.call(method, request, key=other), CallError)
    limited.harness.clock.advance(1)
    assert not isinstance(await limited.call(method, request), CallError)


@pytest.mark.parametrize("package", ["v1", "rest.v1"])
async def test_responses_state_the_remaining_calls(limited: Api, package: str) -> None:
    kind: Any = limited.channel.unary_unary if package == "v1" else limited.channel.unary_stream
    call = kind(f"/headwater.{package}.ConnectionService/ListConnections")(
        b"", metadata=(("authorization", f"Bearer {RESTRICTED}"),), timeout=20
    )
    headers = dict(await call.initial_metadata())
    assert (headers["ratelimit-limit"], headers["ratelimit-remaining"]) == (str(BURST), str(BURST - 1))


def methods() -> list[MethodDescriptor]:
    pool = descriptor_pool.Default()
    file_names = {f"headwater/v1/{name}.proto" for name in (
        "api_keys", "applications", "connections", "connectors", "devices", "events", "filters", "identities",
        "identity_resolution", "pipelines", "profiles", "schemas", "transformations", "workspaces",
    )}  # fmt: skip
    file_names |= {f"headwater/rest/v1/{name}.proto" for name in (
        "applications", "connections", "events", "filters", "profiles", "transformations",
    )}  # fmt: skip
    files = [pool.FindFileByName(name) for name in sorted(file_names)]
    return [method for file in files for service in file.services_by_name.values() for method in service.methods]


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_reading_calls_are_those_with_a_get_route(method: MethodDescriptor) -> None:
    rules = {field.name: value for field, value in method.GetOptions().ListFields()}
    if "http" in rules:
        assert is_reading(f"/x/{method.name}") == bool(rules["http"].get)


async def test_a_read_only_key_reads_and_does_nothing_else(api: Api) -> None:
    create = api_keys_pb2.CreateApiKeyRequest(name="R", workspace=api.harness.workspace, access="Read")
    key = (await api.call("ApiKeyService/CreateApiKey", create)).token
    listed = await api.call("ApiKeyService/ListApiKeys", api_keys_pb2.ListApiKeysRequest(), key=key)
    assert sorted(each.access for each in listed.keys) == ["Full", "Read"]
    assert not isinstance(
        await api.call("ConnectionService/ListConnections", connections_pb2.ListConnectionsRequest(), key=key),
        CallError,
    )
    connection = connections_pb2.CreateConnectionRequest(name="x", role="Source", connector="http")
    for method, request in (
        ("ApiKeyService/CreateApiKey", create),
        ("ApiKeyService/DeleteApiKey", api_keys_pb2.DeleteApiKeyRequest(id=1)),
        ("ConnectionService/CreateConnection", connection),
        ("WorkspaceService/UpdateCurrentWorkspace", workspaces_pb2.UpdateCurrentWorkspaceRequest(name="x")),
        ("FilterService/ParseFilter", filters_pb2.ParseFilterRequest()),
    ):
        failed = await api.call(method, request, key=key)
        assert (failed.status, failed.reason) == ("PERMISSION_DENIED", "ReadOnlyKey"), method
    events = HttpBody(content_type="application/json", data=b'{"type":"track","event":"x","userId":"u"}')
    failed = await api.call("NativeEventService/PostEvents", events, key=key)
    assert failed.reason == "ReadOnlyKey"
    assert api.harness.catalog.connections(api.harness.workspace) == []


async def test_a_key_is_read_only_in_every_process(api: Api) -> None:
    request = api_keys_pb2.CreateApiKeyRequest(name="R", access="Write")
    failed = await api.call("ApiKeyService/CreateApiKey", request, key=UNRESTRICTED)
    assert (failed.reason, failed.metadata) == ("BadRequest", (("field", "access"),))
    request = api_keys_pb2.CreateApiKeyRequest(name="R", access="Read")
    token = (await api.call("ApiKeyService/CreateApiKey", request, key=UNRESTRICTED)).token
    catalog = api.harness.catalog
    catalog._view = type(catalog._view)()  # like a process that starts later
    await catalog.refresh()
    found = catalog.api_key(token)
    assert found is not None and (found.access, found.digest) == ("Read", api_key_digest(token))
