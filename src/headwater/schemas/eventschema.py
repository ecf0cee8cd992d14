"""The schema of events for filters and mappings.

A question mark marks a property that may be missing. `kpid` exists in stored events only, so it is one of these.
"""

from typing import Final

from headwater.schemas import types as t

_TEXT: Final = t.StringType()
_FLAG: Final = t.BooleanType()
_MOMENT: Final = t.DateTimeType()
_JSON: Final = t.JsonType()
_NUMBER: Final = t.FloatType(64)


def _enum(*values: str) -> t.StringType:
    return t.StringType(values=values)


def _object(**properties: tuple[str, t.Type]) -> t.ObjectType:
    """Return an object whose properties may all be missing, each with its description."""
    return t.ObjectType(tuple(_optional(name, type, about) for name, (about, type) in properties.items()))


def _optional(name: str, type: t.Type, about: str) -> t.Property:
    return t.Property(name, type, read_optional=True, description=about)


def _always(name: str, type: t.Type, about: str) -> t.Property:
    return t.Property(name, type, description=about)


_CONTEXT: Final = _object(
    app=("App", _object(
        name=("App name", _TEXT),
        version=("App version", _TEXT),
        build=("App build", _TEXT),
        namespace=("App namespace", _TEXT),
    )),
    browser=("Browser", _object(
        name=("Browser name", _enum("Chrome", "Safari", "Edge", "Firefox", "Samsung Internet", "Opera", "Other")),
        other=("Name of another browser", _TEXT),
        version=("Browser version", _TEXT),
    )),
    campaign=("Campaign", _object(
        name=("Campaign name", _TEXT),
        source=("Campaign source", _TEXT),
        medium=("Campaign medium", _TEXT),
        term=("Campaign term", _TEXT),
        content=("Campaign content", _TEXT),
    )),
    consents=("Consents by purpose", t.MapType(_FLAG)),
    device=("Device", _object(
        id=("Device ID", _TEXT),
        advertisingId=("Advertising ID", _TEXT),
        adTrackingEnabled=("Ad tracking enabled", _FLAG),
        manufacturer=("Device manufacturer", _TEXT),
        model=("Device model", _TEXT),
        name=("Device name", _TEXT),
        type=("Device type", _TEXT),
        token=("Device token", _TEXT),
    )),
    ip=("IP address", t.IpType()),
    library=("Library", _object(name=("Library name", _TEXT), version=("Library version", _TEXT))),
    locale=("Locale", _TEXT),
    location=("Location", _object(
        city=("City", _TEXT),
        country=("Country", _TEXT),
        latitude=("Latitude", _NUMBER),
        longitude=("Longitude", _NUMBER),
        speed=("Speed", _NUMBER),
    )),
    network=("Network", _object(
        bluetooth=("Bluetooth", _FLAG),
        carrier=("Carrier", _TEXT),
        cellular=("Cellular", _FLAG),
        wifi=("Wi-Fi", _FLAG),
    )),
    os=("Operating system", _object(
        name=("Operating system name", _enum("Android", "Windows", "iOS", "macOS", "Linux", "Chrome OS", "Other")),
        other=("Name of another operating system", _TEXT),
        version=("Operating system version", _TEXT),
    )),
    page=("Page", _object(
        path=("Page path", _TEXT),
        referrer=("Page referrer", _TEXT),
        search=("Page search", _TEXT),
        title=("Page title", _TEXT),
        url=("Page URL", _TEXT),
    )),
    referrer=("Referrer", _object(id=("Referrer ID", _TEXT), type=("Referrer type", _TEXT))),
    screen=("Screen", _object(
        width=("Screen width", t.IntType(16)),
        height=("Screen height", t.IntType(16)),
        density=("Screen density", t.DecimalType(3, 2)),
    )),
    session=("Session", _object(id=("Session ID", t.IntType(64)), start=("Session start", _FLAG))),
    timezone=("Time zone", _TEXT),
    userAgent=("User agent", _TEXT),
)  # fmt: skip

EVENT_SCHEMA: Final[t.Schema] = t.ObjectType((
    _optional("kpid", t.UuidType(), "Profile ID"),
    _always("connectionId", t.IntType(32), "Connection ID"),
    _optional("anonymousId", _TEXT, "Anonymous ID"),
    _optional("channel", _TEXT, "Channel"),
    _optional("category", _TEXT, "Category"),
    _optional("context", _CONTEXT, "Context"),
    _optional("event", _TEXT, "Event name"),
    _optional("groupId", _TEXT, "Group ID"),
    _always("messageId", _TEXT, "Message ID"),
    _optional("name", _TEXT, "Page or screen name"),
    _optional("properties", _JSON, "Properties"),
    _always("receivedAt", _MOMENT, "Received at"),
    _always("sentAt", _MOMENT, "Sent at"),
    _always("originalTimestamp", _MOMENT, "Original timestamp"),
    _always("timestamp", _MOMENT, "Timestamp"),
    _always("traits", _JSON, "Traits"),
    _always("type", _enum("alias", "identify", "group", "page", "screen", "track"), "Type"),
    _optional("previousId", _TEXT, "Previous ID"),
    _optional("userId", _TEXT, "User ID"),
))  # fmt: skip
"""The response of `GET /v1/events/schema`, and the schema of events in filters and mappings."""
