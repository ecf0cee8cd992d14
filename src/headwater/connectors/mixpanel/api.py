"""The API of Mixpanel, as far as events and profiles have it in common: addresses, headers, limits, errors."""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from headwater.connectors.checking import REFUSED, check_credentials
from headwater.connectors.contract import ConnectorContext, HttpRequest, ItemResult, RateLimit, rejected, spread
from headwater.connectors.mixpanel.settings import MixpanelSettings

ORIGINS: Final = {
    "US": "https://api.mixpanel.com",
    "EU": "https://api-eu.mixpanel.com",
    "IN": "https://api-in.mixpanel.com",
}
IMPORT_PATH: Final = "/import?strict=1"
ENGAGE_PATH: Final = "/engage?ip=0&strict=1&verbose=1"

MAX_RECORDS: Final = 2_000
MAX_BODY_BYTES: Final = 10_000_000
MAX_RECORD_BYTES: Final = 999_999
MAX_PROPERTIES: Final = 254
MAX_MEMBERS: Final = 254
"""Members of an object or an array in a property."""
MAX_DEPTH: Final = 3
"""Levels of objects in a property."""
MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each record of a request."""
RATE_EVENTS: Final = 1_800_000
"""Events a minute that Mixpanel takes of a project, if they have about 1 KB."""
BURST_EVENTS: Final = 60_000
RATES: Final[tuple[RateLimit, ...]] = (spread(RATE_EVENTS, 60, burst=BURST_EVENTS, unit="Event"),)

_REASONS: Final = {
    "event": "InvalidName",
    "properties.time": "InvalidTime",
    "properties.distinct_id": "InvalidIdentity",
    "properties.$device_id": "InvalidIdentity",
    "properties.$user_id": "InvalidIdentity",
    "$distinct_id": "InvalidIdentity",
    "properties.$insert_id": "InvalidInsertId",
}


class FailedRecord(msgspec.Struct):
    """One record that Mixpanel did not take. Its pages name the member of the id in two ways."""

    index: int | None = None
    insert_id: str = ""
    dollar_insert_id: str = msgspec.field(default="", name="$insert_id")
    field: str = ""
    message: str = ""

    @property
    def id(self) -> str:
        return self.dollar_insert_id or self.insert_id

    @property
    def result(self) -> ItemResult:
        """Return the result of the record. Reasons are few; the message names the field."""
        text = self.message or "Mixpanel does not accept the record"
        if self.field and self.field not in text:
            text = f"{text} ({self.field})"
        return rejected(_REASONS.get(self.field, "InvalidProperty"), text)


def headers(settings: MixpanelSettings) -> dict[str, str]:
    """Return the headers of every request: the token as user name, and no password."""
    credentials = b64encode(f"{settings.project_token}:".encode()).decode()
    return {
        "authorization": f"Basic {credentials}",
        "accept": "application/json",
        "content-type": "application/json",
    }


def records_request(settings: MixpanelSettings, path: str, records: Iterable[bytes]) -> HttpRequest:
    """Return the request that sends events or updates of profiles, each as JSON."""
    return HttpRequest(
        method="POST",
        url=ORIGINS[settings.data_residency] + path,
        headers=headers(settings),
        body=b"[%s]" % b",".join(records),
        max_response_bytes=MAX_ERRORS_BYTES,
    )


def find_broken_limit(value: Any, depth: int = 0) -> str:
    """Return the limit of property values that the value exceeds; empty if it exceeds none.

    `depth` is the number of objects around the value.
    """
    if isinstance(value, list):
        if len(value) > MAX_MEMBERS:
            return f"an array has {len(value)} elements, and {MAX_MEMBERS} are allowed"
        return next((rule for each in value if (rule := find_broken_limit(each, depth))), "")
    if not isinstance(value, dict):
        return ""
    if depth == MAX_DEPTH:
        return f"objects are nested deeper than {MAX_DEPTH} levels"
    if len(value) > MAX_MEMBERS:
        return f"an object has {len(value)} members, and {MAX_MEMBERS} are allowed"
    return next((rule for each in value.values() if (rule := find_broken_limit(each, depth + 1))), "")


async def check(settings: MixpanelSettings, context: ConnectorContext) -> MixpanelSettings:
    """Implements `Engine.http_check`. It imports nothing: Mixpanel refuses an empty request."""
    await check_credentials(
        context,
        records_request(settings, IMPORT_PATH, ()),
        vendor=f"Mixpanel ({settings.data_residency})",
        member="projectToken",
        refused=REFUSED,
        accepted=frozenset({400}),
    )
    return settings
