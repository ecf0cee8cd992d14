"""The API of HubSpot, as far as events and contacts have it in common: addresses, access, limits, errors."""

from datetime import date
from typing import Any, Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ApiVersion, ConnectorContext, HttpRequest, HttpResponse, RateLimit, spread
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.responses import MAX_WAIT_SECONDS, RETRY_AFTER, Wait
from headwater.connectors.users import unavailable

ORIGIN: Final = "https://api.hubapi.com"
VERSION: Final = ApiVersion(name="2026-09", ends_on=date(2028, 3, 9))
"""A version is supported for 18 months."""
ACCOUNT_URL: Final = f"{ORIGIN}/account-info/{VERSION.name}/details"
PRIVATE_LIMIT: Final = spread(100, 10, burst=2, group="requests")
"""The limit of a service key or a private app in the smallest plan. Requests that send events are exempt from it."""
OAUTH_LIMIT: Final = spread(110, 10, burst=2, group="requests")
"""The limit of an app with OAuth, for each account that granted it access."""
WAITS: Final = (RETRY_AFTER, Wait("x-hubspot-ratelimit-interval-milliseconds", "Milliseconds"))


class Error(msgspec.Struct):
    """One error: that of a response, or that of an item in a batch. `context` names the items, and `policy_name` the
    limit that is used up."""

    message: str = ""
    category: str = ""
    context: dict[str, Any] = {}
    policy_name: str = msgspec.field(name="policyName", default="")

    @property
    def reason(self) -> str:
        """Return the category in the form of reasons: `ValidationError` for "VALIDATION_ERROR"."""
        words = "".join(each for each in self.category.title() if each.isascii() and each.isalnum())
        return words or "Refused"


_decode_error: Final = msgspec.json.Decoder(Error).decode


def make_request(
    settings: HubSpotSettings | None, method: str, url: str, body: bytes = b"", max_bytes: int = 1 << 20
) -> HttpRequest:
    """Return a request with the token of the settings, or with that of the OAuth account if there are none."""
    headers = {"accept": "application/json"}
    if body:
        headers["content-type"] = "application/json"
    if settings is not None:
        headers["authorization"] = f"Bearer {settings.access_token}"
    return HttpRequest(
        method=method, url=url, headers=headers, body=body, authorize=settings is None, max_response_bytes=max_bytes
    )


def read_error(response: HttpResponse) -> Error | None:
    """Return the error of a response; None if its body is not the documented one."""
    try:
        error = _decode_error(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return error if error.message or error.category else None


def find_limit(settings: HubSpotSettings | None) -> RateLimit:
    """Return the limit of the app: without settings that of the OAuth account."""
    return OAUTH_LIMIT if settings is None else PRIVATE_LIMIT


def failure(response: HttpResponse, context: ConnectorContext) -> Unavailable:
    """Return the error for a response that is no success and names no contact."""
    error = read_error(response)
    if response.status == 429 and error is not None and error.policy_name == "DAILY":
        return Unavailable("the requests that HubSpot allows a day are used up", retry_after=int(MAX_WAIT_SECONDS))
    return unavailable("HubSpot", response, context, WAITS)


async def check(settings: HubSpotSettings, context: ConnectorContext) -> HubSpotSettings:
    """Implements `Engine.http_check`. A token without access to the account's details is accepted with 403."""
    await check_credentials(
        context,
        make_request(settings, "GET", ACCOUNT_URL),
        vendor="HubSpot",
        member="accessToken",
        refused=frozenset({401}),
        accepted=frozenset({403}),
    )
    return settings
