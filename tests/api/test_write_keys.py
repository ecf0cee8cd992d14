"""Event write keys send events, and do nothing else: every other call refuses them, whatever it is asked."""

import pytest

from headwater.catalog import Connection
from tests.api.conftest import REST, Api, Refused, headwater_service, message_class
from tests.api.test_register import BUILT

PROTOCOLS = ("TrackService", "ClientService", "NativeEventService")
INGESTION = {
    "EventService/SendEvents",
    "EventService/StreamEvents",
    *(f"{protocol}/{name}" for protocol in PROTOCOLS for name in BUILT[protocol]),
}
OPEN = {"SystemService/GetHealth", "SystemService/GetOpenApi"}
MANAGEMENT = sorted({f"{service}/{name}" for service, names in BUILT.items() for name in names} - INGESTION - OPEN)


@pytest.mark.parametrize("method", MANAGEMENT)
async def test_a_write_key_manages_nothing(api: Api, source: Connection, method: str) -> None:
    before = api.harness.catalog._view.version
    request = message_class(headwater_service(method).input_type)()
    for key in (source.event_write_keys[0], f"pk_{'0' * 8}-0000-4000-8000-{'0' * 12}"):
        refused = await api.call(method, request, key=key)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.reason, refused.message) == (
            "INVALID_ARGUMENT",
            "BadRequest",
            "an API key starts with api_",
        )
        rest = await api.call(method, request, REST, key=key)
        assert rest.http is not None and rest.http[0] == 400
    pretending = await api.call(method, request, key=f"api_{source.event_write_keys[0]}")
    assert (pretending.status, pretending.reason) == ("UNAUTHENTICATED", "Unauthorized")
    assert api.harness.catalog._view.version == before
