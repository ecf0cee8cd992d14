"""The API of Klaviyo, as far as events and profiles have it in common: addresses, headers, limits, errors."""

from datetime import date
from typing import Any, Final

import msgspec

from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ApiVersion, ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.klaviyo.settings import KlaviyoSettings

ORIGIN: Final = "https://a.klaviyo.com"
REVISION: Final = ApiVersion(name="2026-10-15", ends_on=date(2028, 10, 15))
"""A revision is supported for two years, of which the second is a notice."""

MAX_BODY_BYTES: Final = 5_000_000
MAX_STRING_BYTES: Final = 100_000
MAX_PROPERTIES: Final = 400
MAX_DEPTH: Final = 10
MAX_ARRAY_ELEMENTS: Final = 4_000


class Source(msgspec.Struct):
    """The part of a request that an error is about: a member of the body, or a parameter of the URL."""

    pointer: str | None = None
    parameter: str | None = None


class Meta(msgspec.Struct):
    """Further facts about an error."""

    duplicate_profile_id: str | None = None


class Error(msgspec.Struct):
    """One error of a response."""

    code: str = ""
    title: str = ""
    detail: str = ""
    source: Source | None = None
    meta: Meta | None = None

    @property
    def pointer(self) -> str:
        """Return the JSON pointer of the value that the error is about; empty without one."""
        return (self.source.pointer or "") if self.source is not None else ""

    @property
    def is_about_cursor(self) -> bool:
        return self.source is not None and self.source.parameter == "page[cursor]"

    @property
    def reason(self) -> str:
        """Return the code in the form of reasons: `InvalidEmail` for "invalid_email"."""
        words = "".join(each for each in self.code.title() if each.isascii() and each.isalnum())
        return words or "Refused"

    @property
    def message(self) -> str:
        text = self.detail or self.title
        return f"{text} ({self.pointer})" if self.pointer else text


class _Errors(msgspec.Struct):
    """The body of an error. Older endpoints have a `message` instead of errors."""

    errors: list[Error] = []
    message: str = ""


_CREDENTIAL_CODES: Final = frozenset({"authentication_failed", "not_authenticated", "not_authorized"})
_decode_errors: Final = msgspec.json.Decoder(_Errors).decode


def headers(settings: KlaviyoSettings) -> dict[str, str]:
    """Return the headers of every request."""
    return {
        "authorization": f"Klaviyo-API-Key {settings.private_api_key}",
        "revision": REVISION.name,
        "accept": "application/vnd.api+json",
        "content-type": "application/vnd.api+json",
    }


def reading_headers(settings: KlaviyoSettings) -> dict[str, str]:
    """Return the headers of requests without a body."""
    return {name: value for name, value in headers(settings).items() if name != "content-type"}


def read_errors(response: HttpResponse) -> list[Error]:
    """Return the errors of a response; none if its body is not the documented one."""
    return _read_body(response).errors


def refuses_key(response: HttpResponse) -> bool:
    """Return whether a 400 is about the private key.

    Klaviyo documents 401 for it, and documented 400 until 2023. An error about the key names no member of the body.
    """
    if response.status != 400:
        return False
    body = _read_body(response)
    about_request = [error for error in body.errors if not error.pointer]
    texts = (body.message, *(error.message for error in about_request))
    return any(error.code in _CREDENTIAL_CODES for error in about_request) or any(
        "api key" in text.lower() for text in texts
    )


def _read_body(response: HttpResponse) -> _Errors:
    try:
        return _decode_errors(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Errors()


def find_broken_limit(value: Any, depth: int = 1) -> str:
    """Return the limit of property values that the value exceeds; empty if it exceeds none.

    `depth` is the level of the value, and 1 for the object of all properties.
    """
    if isinstance(value, str):
        size = len(value) if value.isascii() else len(value.encode())
        return f"a text has {size} bytes, and {MAX_STRING_BYTES} are allowed" if size > MAX_STRING_BYTES else ""
    if not isinstance(value, dict | list):
        return ""
    if depth > MAX_DEPTH:
        return f"properties are nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, list):
        if len(value) > MAX_ARRAY_ELEMENTS:
            return f"an array has {len(value)} elements, and {MAX_ARRAY_ELEMENTS} are allowed"
        return next((rule for each in value if (rule := find_broken_limit(each, depth + 1))), "")
    return next((rule for each in value.values() if (rule := find_broken_limit(each, depth + 1))), "")


async def check(settings: KlaviyoSettings, context: ConnectorContext) -> KlaviyoSettings:
    """Implements `Engine.http_check`. A key without access to the account's own data is accepted with 403."""
    await check_credentials(
        context,
        HttpRequest(
            method="GET", url=f"{ORIGIN}/api/accounts?fields[account]=timezone", headers=reading_headers(settings)
        ),
        vendor="Klaviyo",
        member="privateAPIKey",
        refused=frozenset({400, 401}),
        accepted=frozenset({403}),
    )
    return settings
