"""The API of MailerLite: addresses, headers, and errors."""

from typing import Final

import msgspec

from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ApiVersion, ConnectorContext, HttpRequest
from headwater.connectors.mailerlite.settings import MailerLiteSettings

API_URL: Final = "https://connect.mailerlite.com/api"
VERSION: Final = ApiVersion(name="2026-11-30")
"""The day on which the requests were written: MailerLite serves the API as it was then, without an end."""


class Error(msgspec.Struct):
    """The body of an error: a text, and texts about members of the request.

    `subscriber` is the id of the subscriber with the e-mail address, if MailerLite does not create it because it has
    unsubscribed.
    """

    message: str = ""
    errors: dict[str, list[str]] = {}
    subscriber: str = ""

    @property
    def text(self) -> str:
        fields = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in self.errors.items())
        return f"{self.message} ({fields})" if fields else self.message

    @property
    def reason(self) -> str:
        """Return the first member in the form of reasons: `InvalidEmail` for "email"; empty if none is named."""
        name = next(iter(self.errors), "")
        return "Invalid" + "".join(each for each in name.title() if each.isascii() and each.isalnum()) if name else ""


def headers(settings: MailerLiteSettings) -> dict[str, str]:
    """Return the headers of every request: MailerLite asks for all of them also without a body."""
    return {
        "authorization": f"Bearer {settings.api_key}",
        "accept": "application/json",
        "content-type": "application/json",
        "x-version": VERSION.name,
    }


async def check(settings: MailerLiteSettings, context: ConnectorContext) -> MailerLiteSettings:
    """Implements `Engine.http_check`."""
    await check_credentials(
        context,
        HttpRequest(method="GET", url=f"{API_URL}/fields?limit=1", headers=headers(settings)),
        vendor="MailerLite",
        member="apiKey",
    )
    return settings
