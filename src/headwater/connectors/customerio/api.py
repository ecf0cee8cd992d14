"""The Track API of Customer.io, as far as events and people have it in common: addresses, limits, items, errors."""

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import (
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    ItemResult,
    RateLimit,
    rejected,
    spread,
)
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.connectors.identities import is_placeholder
from headwater.connectors.settings import invalid

ORIGINS: Final = {"US": "https://track.customer.io", "EU": "https://track-eu.customer.io"}
MAX_BODY_BYTES: Final = 500_000
MAX_ITEM_BYTES: Final = 32_000
MAX_ID_BYTES: Final = 150
MAX_ATTRIBUTES: Final = 300
MAX_ATTRIBUTE_NAME_BYTES: Final = 150
MAX_ATTRIBUTE_BYTES: Final = 1_000
MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each item of a batch."""

RATES: Final[tuple[RateLimit, ...]] = (spread(100, 1, burst=4, group="track"),)
"""Customer.io allows 100 requests a second."""

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_TIME_BYTES: Final = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d')
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?")
_encode: Final = msgspec.json.Encoder().encode


class ItemError(msgspec.Struct):
    """One error of a response, about the item at an index of the batch; None if it is about the request."""

    batch_index: int | None = None
    reason: str = ""
    field: str = ""
    message: str = ""

    @property
    def result(self) -> ItemResult:
        """Return the result of the item, with the reason as a code: `Invalid` for "invalid"."""
        words = "".join(each for each in self.reason.title() if each.isascii() and each.isalnum())
        text = self.message or self.reason or "no reason is given"
        return rejected(words or "Refused", f"{text} ({self.field})" if self.field else text)


class _Errors(msgspec.Struct):
    errors: list[ItemError] = []


class _Region(msgspec.Struct):
    region: str


_decode_errors: Final = msgspec.json.Decoder(_Errors).decode
_decode_region: Final = msgspec.json.Decoder(_Region).decode


def headers(settings: CustomerIoSettings) -> dict[str, str]:
    """Return the headers of every request."""
    credentials = base64.b64encode(f"{settings.site_id}:{settings.api_key}".encode()).decode()
    return {"authorization": f"Basic {credentials}", "accept": "application/json", "content-type": "application/json"}


def batch_request(settings: CustomerIoSettings, items: Iterable[bytes]) -> HttpRequest:
    """Return the request that sends items, each as JSON."""
    return HttpRequest(
        method="POST",
        url=f"{ORIGINS[settings.region]}/api/v2/batch",
        headers=headers(settings),
        body=b'{"batch":[%s]}' % b",".join(items),
        max_response_bytes=MAX_ERRORS_BYTES,
    )


def read_errors(response: HttpResponse) -> list[ItemError] | None:
    """Return the errors of a response; None if its body is not the documented one."""
    try:
        return _decode_errors(response.body).errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def identify_person(values: Mapping[str, Any], *, may_be_anonymous: bool = False) -> dict[str, str]:
    """Return the one identifier of a person in the form of items; empty without one that is no placeholder.

    An `id` with an e-mail address is that identifier, and one that starts with cio_ is an id of Customer.io.
    """
    id_ = values.get("id") or ""
    if not is_placeholder(id_):
        if id_.startswith("cio_") and len(id_) > 4:
            return {"cio_id": id_[4:]}
        return {"email" if _EMAIL.fullmatch(id_) else "id": id_}
    for name in ("email", "anonymous_id") if may_be_anonymous else ("email",):
        if not is_placeholder(values.get(name) or ""):
            return {name: values[name]}
    return {}


def convert_times(body: bytes) -> bytes:
    """Return JSON whose texts that are times are seconds since 1970, because Customer.io compares only these.

    Dates stay texts.
    """
    if _TIME_BYTES.search(body) is None:  # nearly always
        return body
    return _encode(_converted(msgspec.json.decode(body)))


def _converted(value: Any) -> Any:
    if isinstance(value, str):
        return to_seconds(value)
    if isinstance(value, dict):
        return {name: _converted(each) for name, each in value.items()}
    return [_converted(each) for each in value] if isinstance(value, list) else value


def to_seconds(text: str) -> int | str:
    """Return a time in ISO 8601 as seconds since 1970, in UTC if it has no zone; any other text unchanged."""
    if len(text) > 40 or not _TIME.fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def find_broken_limit(attributes: Mapping[str, Any]) -> str:
    """Return the limit that attributes of a person or an object exceed; empty if they exceed none."""
    if len(attributes) > MAX_ATTRIBUTES:
        return f"{len(attributes)} attributes are given, and {MAX_ATTRIBUTES} are allowed"
    for name, value in attributes.items():
        if not name or len(name.encode()) > MAX_ATTRIBUTE_NAME_BYTES:
            return f"the name of an attribute must have 1 to {MAX_ATTRIBUTE_NAME_BYTES} bytes: {name[:50]!r}"
        if name == "cio_id":
            return "cio_id is reserved: Customer.io sets it"
        if (size := _size(value)) > MAX_ATTRIBUTE_BYTES:
            return f"attribute {name!r} has {size} bytes, and {MAX_ATTRIBUTE_BYTES} are allowed"
    return ""


def _size(value: Any) -> int:
    """Return the bytes of a text, or of the JSON of any other value."""
    body = bytes(value) if isinstance(value, Raw) else _encode(value)
    if len(body) <= MAX_ATTRIBUTE_BYTES or not body.startswith(b'"'):
        return len(body)
    return len(msgspec.json.decode(body, type=str).encode())


async def check(settings: CustomerIoSettings, context: ConnectorContext) -> CustomerIoSettings:
    """Implements `Engine.http_check`. The region must be that of the account, because data would pass another one."""
    response = await check_credentials(
        context,
        HttpRequest(
            method="GET", url=f"{ORIGINS[settings.region]}/api/v1/accounts/region", headers=_reading_headers(settings)
        ),
        vendor=f"Customer.io in the region {settings.region}",
        member="apiKey",
    )
    try:
        region = _decode_region(response.body).region.upper()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        region = ""
    if region in ORIGINS and region != settings.region:
        raise invalid("settings.region", f"must be that of the account, which is {region}")
    return settings


def _reading_headers(settings: CustomerIoSettings) -> dict[str, str]:
    return {name: value for name, value in headers(settings).items() if name != "content-type"}
