"""Event write keys send events, and do nothing else: every other call rejects them, with any request."""

from headwater.catalog import Connection
from tests.api.conftest import REST, Api, CallError, headwater_service, message_class
from tests.api.test_register import documented, short_name

PROTOCOLS = ("rest.TrackService/", "rest.ClientService/", "rest.NativeEventService/")
OPEN = {
    "EventService/SendEvents",
    "EventService/StreamEvents",
    "SystemService/GetHealth",
    "rest.SystemService/GetDescriptors",
    "rest.SystemService/GetOpenApi",
}
MANAGEMENT = sorted({short_name(call) for call in documented() if not short_name(call).startswith(PROTOCOLS)} - OPEN)


async def test_a_write_key_manages_nothing(api: Api, source: Connection) -> None:
    before = api.harness.catalog._view.version
    for method in MANAGEMENT:
        request = message_class(headwater_service(method).input_type)()
        for key in (source.event_write_keys[0], f"pk_{'0' * 8}-0000-4000-8000-{'0' * 12}"):
            failed = await api.call(method, request, key=key)
            assert isinstance(failed, CallError), method
            assert (failed.status, failed.reason, failed.message) == (
                "INVALID_ARGUMENT",
                "BadRequest",
                "an API key starts with api_",
            ), method
            rest = await api.call(method, request, REST, key=key)
            assert rest.http is not None and rest.http[0] == 400, method
        pretending = await api.call(method, request, key=f"api_{source.event_write_keys[0]}")
        assert (pretending.status, pretending.reason) == ("UNAUTHENTICATED", "Unauthorized"), method
    assert api.harness.catalog._view.version == before
