"""The Conversions API of Meta: addresses, versions, limits and errors."""

from datetime import date
from typing import Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ApiVersion, ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.headers import JSON_HEADERS
from headwater.connectors.meta_conversions.settings import MetaConversionsSettings
from headwater.connectors.responses import MAX_WAIT_SECONDS
from headwater.connectors.settings import invalid

ORIGIN: Final = "https://graph.facebook.com"
VERSION: Final = ApiVersion(name="v25.0", ends_on=date(2028, 7, 29))
MAX_EVENTS: Final = 1_000
MAX_BODY_BYTES: Final = 2_000_000
"""Meta documents no limit of bytes. This is one of Headwater."""
MAX_EVENT_BYTES: Final = 64 * 1024
"""The same."""
MAX_EVENT_NAME_CHARACTERS: Final = 50
MAX_AGE_SECONDS: Final = 7 * 86_400.0 - 3_600.0
"""Seven days, without an hour in which an event can wait to be sent."""
MAX_STORE_AGE_SECONDS: Final = 62 * 86_400.0 - 3_600.0
"""The same of events of physical stores: 62 days."""
MAX_FUTURE_SECONDS: Final = 300.0
"""Difference of clocks that is accepted. The time that is sent is not later than the receipt of the event."""
DEDUPLICATION_SECONDS: Final = 48 * 3_600.0

ERROR_STATUSES: Final = frozenset({400, 401, 403, 404, 429, 500, 503})
"""Statuses whose body has an error with a code, which decides."""
TOKEN_CODES: Final = frozenset({102, 190})
"""The access token is expired, revoked or invalid."""
PERMISSION_CODES: Final = frozenset({3, 10, *range(200, 300)})
"""The access token lacks a permission, or an account is restricted."""
TRANSIENT_CODES: Final = frozenset({1, 2, 4, 17, 32, 341, 368, 613, *range(80_000, 80_015)})
"""A failure of Meta, or too many calls."""
NO_OBJECT: Final = (100, 33)
"""Code and subcode: the dataset does not exist, or the token has no access to it."""


class Error(msgspec.Struct):
    """The error of a response."""

    message: str = ""
    type: str = ""
    code: int = 0
    error_subcode: int = 0
    is_transient: bool = False
    error_user_title: str = ""
    error_user_msg: str = ""

    @property
    def is_retryable(self) -> bool:
        return self.is_transient or self.code in TRANSIENT_CODES

    @property
    def is_about_token(self) -> bool:
        return self.code in TOKEN_CODES or self.code in PERMISSION_CODES

    @property
    def is_about_dataset(self) -> bool:
        return (self.code, self.error_subcode) == NO_OBJECT

    @property
    def reason(self) -> str:
        """Return a short code, the same for equal causes."""
        if self.error_subcode:
            return f"MetaError{self.code}Subcode{self.error_subcode}"
        return f"MetaError{self.code}"

    @property
    def text(self) -> str:
        """Return the text for users, which is more precise than the message if Meta gives one."""
        parts = (self.error_user_title, self.error_user_msg or self.message)
        return ": ".join(part for part in parts if part)


class _Body(msgspec.Struct):
    error: Error


class _Usage(msgspec.Struct):
    estimated_time_to_regain_access: float = 0.0


_decode_error: Final = msgspec.json.Decoder(_Body).decode
_decode_usage: Final = msgspec.json.Decoder(dict[str, list[_Usage]]).decode


def events_url(settings: MetaConversionsSettings) -> str:
    return f"{ORIGIN}/{VERSION.name}/{settings.dataset_id}/events"


def headers(settings: MetaConversionsSettings) -> dict[str, str]:
    """Return the headers of every request."""
    return {"authorization": f"Bearer {settings.access_token}", **JSON_HEADERS}


def read_error(response: HttpResponse) -> Error | None:
    """Return the error of a response; None if its body is not the documented one."""
    try:
        return _decode_error(response.body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def find_usage_wait(response: HttpResponse) -> float | None:
    """Return the seconds until calls are allowed again, which a header states in minutes; None if it states none."""
    try:
        usages = _decode_usage(response.headers.get("x-business-use-case-usage", "{}"))
    except (msgspec.DecodeError, RecursionError):
        return None
    minutes = max((each.estimated_time_to_regain_access for usage in usages.values() for each in usage), default=0.0)
    return min(60 * minutes, MAX_WAIT_SECONDS) if minutes > 0 else None


async def check(settings: MetaConversionsSettings, context: ConnectorContext) -> MetaConversionsSettings:
    """Implements `Engine.http_check`. It sends no events: Meta rejects this, but for another reason than the token.

    A token that may send events need not be able to read the dataset, so no reading request can check it.
    """
    response = await check_credentials(
        context,
        HttpRequest(method="POST", url=events_url(settings), headers=headers(settings), body=b'{"data":[]}'),
        vendor="Meta",
        member="accessToken",
        refused=frozenset({401}),
        accepted=frozenset({400, 403, 404}),
    )
    error = None if response.status < 300 else read_error(response)
    if error is None:
        if response.status >= 300:
            raise Unavailable(f"Meta cannot check the settings at present: it responds with status {response.status}")
        return settings
    text = context.redact(error.text)
    if error.is_retryable:
        raise Unavailable(f"Meta cannot check the settings at present: {text}")
    if error.is_about_token:
        raise invalid("settings.accessToken", f"is not accepted by Meta (code {error.code}): {text}")
    if error.is_about_dataset:
        raise invalid("settings.datasetID", f"is not accepted by Meta (code {error.code}): {text}")
    return settings
