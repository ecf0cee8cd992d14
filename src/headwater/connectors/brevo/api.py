"""The API of Brevo, as far as events and contacts have it in common: addresses, headers, errors, waits."""

from typing import Final

import msgspec

from headwater.connectors.brevo.settings import BrevoSettings
from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ApiVersion, ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.responses import RETRY_AFTER, Wait

ORIGIN: Final = "https://api.brevo.com"
VERSION: Final = ApiVersion(name="v3")
"""Brevo has announced no end of this version."""
WAITS: Final = (Wait("x-sib-ratelimit-reset", "Seconds"), RETRY_AFTER)
"""Brevo sends the seconds until its limit is reset in a header of its own."""


class Error(msgspec.Struct):
    """The error of a response."""

    code: str = ""
    message: str = ""

    @property
    def reason(self) -> str:
        """Return the code in the form of reasons: `InvalidParameter` for "invalid_parameter"."""
        words = "".join(each for each in self.code.title() if each.isascii() and each.isalnum())
        return words or "Refused"


_decode_error: Final = msgspec.json.Decoder(Error).decode


def headers(settings: BrevoSettings) -> dict[str, str]:
    """Return the headers of requests with a body."""
    return {"api-key": settings.api_key, "accept": "application/json", "content-type": "application/json"}


def reading_headers(settings: BrevoSettings) -> dict[str, str]:
    """Return the headers of requests without a body."""
    return {"api-key": settings.api_key, "accept": "application/json"}


def read_error(response: HttpResponse) -> Error | None:
    """Return the error of a response; None if its body is not the documented one."""
    try:
        error = _decode_error(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return error if error.code else None


def is_empty(response: HttpResponse) -> bool:
    """Return whether a response has no content, as Brevo's to an event or contact that it takes. A proxy has a page."""
    return response.body.strip() in (b"", b"{}")


async def check(settings: BrevoSettings, context: ConnectorContext) -> BrevoSettings:
    """Implements `Engine.http_check`."""
    await check_credentials(
        context,
        HttpRequest(method="GET", url=f"{ORIGIN}/v3/account", headers=reading_headers(settings)),
        vendor="Brevo",
        member="apiKey",
    )
    return settings
