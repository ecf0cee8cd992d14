"""Event write keys send events, and do nothing else: every other call rejects them, with any request."""

import pytest

from headwater.catalog import Connection
from tests.api.conftest import REST, Api, CallError, headwater_service, message_class
from tests.api.test_register import documented, short_name, unbuilt

PROTOCOLS = ("rest.TrackService/", "rest.ClientService/", "rest.NativeEventService/")
OPEN = {
    "EventService/SendEvents",
    "EventService/StreamEvents",
    "SystemService/GetHealth",
    "rest.SystemService/GetDescriptors",
    "rest.SystemService/GetOpenApi",
}
MANAGEMENT = sorted({short_name(call) for call in documented() if not short_name(call).startswith(PROTOCOLS)} - OPEN)


@pytest.mark.parametrize("method", MANAGEMENT)
async def test_a_write_key_manages_nothing(api: Api, source: Connection, method: str) -> None:
    if method in {short_name(call) for call in unbuilt(api)}:
        return
    before = api.harness.catalog._view.version
    request = message_class(headwater_service(method).input_type)()
    for key in (source.event_write_keys[0], f"pk_{'0' * 8}-0000-4000-8000-{'0' * 12}"):
        failed = await api.call(method, request, key=key)
        assert isinstance(failed, CallError)
        assert (failed.status, failed.reason, failed.message) == (
            "INVALID_ARGUMENT",
            "BadRequest",
            "an API key starts with api_",
        )
        rest = await api.call(method, request, REST, key=key)
        assert rest.http is not None and rest.http[0] == 400
    pretending = await api.call(method, request, key=f"api_{source.event_write_keys[0]}")
    assert (pretending.status, pretending.reason) == ("UNAUTHENTICATED", "Unauthorized")
    assert api.harness.catalog._view.version == before
