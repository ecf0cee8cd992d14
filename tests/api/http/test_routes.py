"""The protos' rules are the routes: every call that takes and gives a raw body is found by its path, and no other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from google.api.annotations_pb2 import http
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio

from headwater.api import ERROR_BODIES, AnswerInterceptor, Services, register_protocols
from headwater.api.http import RawCalls
from headwater.api.http.call import HttpCall, context_of
from headwater.v1 import (
    client_pb2,
    client_pb2_grpc,
    connections_pb2_grpc,
    native_events_pb2,
    native_events_pb2_grpc,
    track_pb2,
    track_pb2_grpc,
    transformations_pb2_grpc,
)
from tests.harness import open_harness

PROTOCOLS = [
    (track_pb2, track_pb2_grpc, "TrackService"),
    (native_events_pb2, native_events_pb2_grpc, "NativeEventService"),
    (client_pb2, client_pb2_grpc, "ClientService"),
]


def rules(method: MethodDescriptor) -> Iterator[Any]:
    rule = method.GetOptions().Extensions[http]
    yield from (rule, *rule.additional_bindings)


ROUTES = [
    (service, method.name, rule.post)
    for protos, _, service in PROTOCOLS
    for method in protos.DESCRIPTOR.services_by_name[service].methods
    for rule in rules(method)
    if rule.post
]


def telling(generated: Any, service: str) -> Any:
    """A servicer whose answer is which of its calls was made, with what."""

    def call(name: str) -> Any:
        async def answer(_self: object, request: Any, _context: object) -> HttpBody:
            return HttpBody(content_type="text/plain", data=f"{service}.{name} {request!s}".encode())

        return answer

    base = getattr(generated, f"{service}Servicer")
    return type(service, (base,), {name: call(name) for name in vars(base) if name[0] != "_"})()


@pytest.fixture
def calls() -> RawCalls:
    found = RawCalls(AnswerInterceptor())
    for _, generated, service in PROTOCOLS:
        getattr(generated, f"add_{service}Servicer_to_server")(telling(generated, service), found)
    return found


async def told(calls: RawCalls, path: str) -> str:
    found = calls.find(path)
    assert found is not None, path
    call, variables = found
    message = call.message(HttpBody(content_type="text/csv", data=b"body"), variables)
    answer = await call.answer(message, context_of(HttpCall((), path)))
    return str(answer.data, "utf-8")


@pytest.mark.parametrize(("service", "method", "path"), ROUTES, ids=[path for *_, path in ROUTES])
async def test_every_post_of_the_dialects_is_a_raw_call(calls: RawCalls, service: str, method: str, path: str) -> None:
    answer = await told(calls, path.replace("{type}", "track"))
    assert answer.startswith(f"{service}.{method} ")
    assert 'content_type: "text/csv"' in answer
    assert 'data: "body"' in answer


async def test_the_server_registers_all_of_them(tmp_path: Path) -> None:
    registered = RawCalls(AnswerInterceptor(ERROR_BODIES))
    async with open_harness(tmp_path) as harness:
        register_protocols(
            cast(aio.Server, registered),
            Services(
                harness.catalog,
                harness.intake,
                harness.state,
                harness.functions,
                harness.log,
                harness.store,
                harness.clock,
            ),
        )
    assert ROUTES
    assert [path for *_, path in ROUTES if registered.find(path) is None] == []


@pytest.mark.parametrize(
    ("segment", "type_"),
    [("track", "track"), ("tr%61ck", "track"), ("a%2Fb", "a/b"), ("%C3%A9", "é"), ("%FF", "\N{REPLACEMENT CHARACTER}")],
)
async def test_a_variable_is_one_segment_of_the_path(calls: RawCalls, segment: str, type_: str) -> None:
    found = calls.find(f"/v1/events/{segment}")
    assert found is not None
    call, variables = found
    assert call.message(HttpBody(), variables).type == variables["type"] == type_


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
        "/headwater.v1.TrackService/Track",
        "*",
    ],
)
def test_other_paths_are_no_raw_calls(calls: RawCalls, path: str) -> None:
    assert calls.find(path) is None


def test_of_other_services_only_what_takes_and_gives_a_raw_body_is_one() -> None:
    found = RawCalls(AnswerInterceptor())
    server = cast(aio.Server, found)
    connections_pb2_grpc.add_ConnectionServiceServicer_to_server(
        connections_pb2_grpc.ConnectionServiceServicer(), server
    )
    transformations_pb2_grpc.add_TransformationServiceServicer_to_server(
        transformations_pb2_grpc.TransformationServiceServicer(), server
    )
    assert found.find("/v1/connections") is None
    assert found.find("/v1/transformations") is not None  # JSON of people's own
