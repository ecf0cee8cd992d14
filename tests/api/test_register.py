"""Every documented call of the protos is implemented."""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from headwater.api.register import registrations
from tests.api.conftest import Api, CallError, headwater_service, message_class, services


def documented() -> list[str]:
    """Return all methods of the gateway's descriptor set, as "package.Service/Method"."""
    descriptors = Path(__file__).parents[2] / "envoy" / "descriptors.pb"
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    return [
        f"{file.package}.{service.name}/{method.name}"
        for file in files
        for service in file.service
        for method in service.method
    ]


def short_name(call: str) -> str:
    """Return the name of a call for `Api.call`."""
    return call.removeprefix("headwater.").removeprefix("v1.").replace("rest.v1.", "rest.")


ENDLESS = {"headwater.v1.EventService/WatchEvents", "headwater.rest.v1.EventService/WatchEvents"}
"""Calls that have no end of their own."""


async def test_every_documented_call_has_a_response(api: Api) -> None:
    assert len(documented()) > 80
    for call in sorted({*documented()} - ENDLESS):
        method = short_name(call)
        request = message_class(headwater_service(method).input_type)()
        response: Any = await api.call(method, request)
        if isinstance(response, CallError):
            assert response.status not in ("INTERNAL", "UNKNOWN", "UNIMPLEMENTED"), (call, response)
            assert response.reason, (call, response)


async def test_all_services_are_registered_and_no_call_is_lost(api: Api) -> None:
    registered = {
        f"{each.service.full_name}/{method.name}"
        for each in registrations(services(api.harness))
        for method in each.service.methods
    }
    assert registered == set(documented())


async def test_a_call_that_is_not_documented_is_unimplemented(api: Api) -> None:
    call: Any = api.channel.unary_unary("/headwater.v1.ConnectionService/Nonsense")
    try:
        await call(b"")
    except Exception as error:
        assert "UNIMPLEMENTED" in str(error)
    else:
        raise AssertionError("the call did not fail")
