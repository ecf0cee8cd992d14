"""The API of Amplitude: addresses, limits, the forms of responses, and the check of keys."""

from collections.abc import Iterator
from typing import Final

import msgspec

from headwater.connectors.amplitude.settings import AmplitudeSettings
from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.settings import invalid

ORIGINS: Final = {"US": "https://api2.amplitude.com", "EU": "https://api.eu.amplitude.com"}
HTTP_PATH: Final = "/2/httpapi"
BATCH_PATH: Final = "/batch"
HEADERS: Final = {"accept": "application/json", "content-type": "application/json"}

MAX_HTTP_EVENTS: Final = 10
"""Events of a request to `HTTP_PATH`, as Amplitude recommends."""
MAX_HTTP_BYTES: Final = 1_000_000
MAX_BATCH_EVENTS: Final = 2_000
MAX_BATCH_BYTES: Final = 20_000_000
MAX_DEPTH: Final = 40
THROTTLED_SECONDS: Final = 30.0
"""Time for which no event of a throttled user is sent."""
BLOCKED: Final = 403
"""The status of a request that Amplitude's firewall blocks."""
QUOTA_SECONDS: Final = 3_600.0
"""Time after which a user's quota of a day can be free again: it is counted by hours."""

_KEY_REFUSED: Final = "invalid api key"


class Rejection(msgspec.Struct):
    """The body of a response with an error. Events are named by their indexes, users by their ids."""

    error: str = ""
    missing_field: str | None = None
    events_with_invalid_fields: dict[str, list[int]] | None = None
    events_with_missing_fields: dict[str, list[int]] | None = None
    events_with_invalid_id_lengths: dict[str, list[int]] | None = None
    silenced_events: list[int] | None = None
    throttled_events: list[int] | None = None
    throttled_users: dict[str, float] | None = None
    throttled_devices: dict[str, float] | None = None
    exceeded_daily_quota_users: dict[str, float] | None = None
    exceeded_daily_quota_devices: dict[str, float] | None = None

    @property
    def is_about_key(self) -> bool:
        """Return whether the key is refused."""
        return self.missing_field == "api_key" or self.error.lower().startswith(_KEY_REFUSED)

    def invalid_events(self) -> Iterator[tuple[int, str, str]]:
        """Return the indexes of events that are never accepted, each with a reason and a message."""
        for fields, reason, rule in (
            (self.events_with_invalid_fields, "InvalidField", "is not valid"),
            (self.events_with_missing_fields, "MissingField", "is missing"),
            (self.events_with_invalid_id_lengths, "InvalidIdLength", "is too short"),
        ):
            for field, indexes in (fields or {}).items():
                for index in indexes:
                    yield index, reason, f"{field} {rule}"
        for index in self.silenced_events or ():
            yield index, "SilencedDevice", "Amplitude blocks the device or the user"


class Success(msgspec.Struct):
    """The body of a response to accepted events."""

    code: int
    events_ingested: int


_decode_rejection: Final = msgspec.json.Decoder(Rejection).decode


def read_rejection(response: HttpResponse) -> Rejection:
    """Return the body of a response with an error; an empty one if it is not the documented one."""
    try:
        return _decode_rejection(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Rejection()


async def check(settings: AmplitudeSettings, context: ConnectorContext) -> AmplitudeSettings:
    """Implements `Engine.http_check`. It sends no event: Amplitude refuses an empty request with the same status as a
    key, and with another text."""
    response = await check_credentials(
        context,
        HttpRequest(
            method="POST",
            url=ORIGINS[settings.server_zone] + HTTP_PATH,
            headers=HEADERS,
            body=msgspec.json.encode({"api_key": settings.api_key, "events": []}),
        ),
        vendor="Amplitude",
        member="apiKey",
        refused=frozenset({401}),
        accepted=frozenset({400}),
    )
    rejection = read_rejection(response)
    if response.status == 400 and rejection.is_about_key:
        text = context.redact(rejection.error)[:200]
        raise invalid("settings.apiKey", f"is not accepted by Amplitude in the zone {settings.server_zone}: {text}")
    return settings
