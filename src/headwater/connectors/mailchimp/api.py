"""The API of Mailchimp: addresses, headers, and errors."""

from typing import Final
from urllib.parse import quote

import msgspec

from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import (
    ApiVersion,
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    ItemResult,
    rejected,
)
from headwater.connectors.mailchimp.settings import MailchimpSettings
from headwater.connectors.responses import read_safe_text
from headwater.connectors.settings import invalid

VERSION: Final = ApiVersion(name="3.0")
"""Mailchimp has announced no end of it."""
MAX_CONNECTIONS: Final = 8
"""Mailchimp allows 10 at the same time for a user of an account."""


class _Field(msgspec.Struct):
    field: str = ""
    message: str = ""


class Problem(msgspec.Struct):
    """The body of an error: RFC 7807, and the members of the request that are not valid."""

    title: str = ""
    detail: str = ""
    errors: list[_Field] = []

    @property
    def text(self) -> str:
        fields = "; ".join(f"{each.field}: {each.message}" for each in self.errors)
        return f"{self.detail} ({fields})" if fields else self.detail or self.title


_decode_problem: Final = msgspec.json.Decoder(Problem).decode


def headers(settings: MailchimpSettings) -> dict[str, str]:
    """Return the headers of every request."""
    return {"authorization": f"Bearer {settings.api_key}", "accept": "application/json"}


def audience_url(settings: MailchimpSettings) -> str:
    """Return the URL of the audience, at the data center of the key."""
    data_center = settings.api_key.rpartition("-")[2]
    return f"https://{data_center}.api.mailchimp.com/{VERSION.name}/lists/{quote(settings.audience, safe='')}"


def format_reason(text: str) -> str:
    """Return a title or a code in the form of reasons: `InvalidResource` for "Invalid Resource"."""
    return "".join(each for each in text.title() if each.isascii() and each.isalnum()) or "Refused"


def reject(response: HttpResponse, context: ConnectorContext) -> ItemResult:
    """Return the result of a contact that Mailchimp does not accept."""
    try:
        problem = _decode_problem(response.body)
        reason, text = format_reason(problem.title), context.redact(problem.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason, text = f"Status{response.status}", read_safe_text(response, context)
    return rejected(reason, text or f"Mailchimp responds with status {response.status}")


async def check(settings: MailchimpSettings, context: ConnectorContext) -> MailchimpSettings:
    """Implements `Engine.http_check`."""
    url = f"{audience_url(settings)}?fields=id"
    response = await check_credentials(
        context,
        HttpRequest(method="GET", url=url, headers=headers(settings)),
        vendor="Mailchimp",
        member="apiKey",
        accepted=frozenset({404}),
    )
    if response.status == 404:
        raise invalid("settings.audience", "does not exist in the Mailchimp account of the key")
    return settings
