"""The API of Stripe: addresses, headers, errors, and the encoding of bodies as forms."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ApiVersion, ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.stripe.settings import StripeSettings

CUSTOMERS_URL: Final = "https://api.stripe.com/v1/customers"
VERSION: Final = ApiVersion(name="2026-07-29.dahlia")
"""Stripe has announced no end of any version."""


class Error(msgspec.Struct):
    """The error of a response. `param` is the parameter that it is about."""

    type: str | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None

    @property
    def reason(self) -> str:
        """Return the code in the form of reasons: `EmailInvalid` for "email_invalid"."""
        words = "".join(each for each in (self.code or self.type or "").title() if each.isascii() and each.isalnum())
        return words or "Refused"

    @property
    def text(self) -> str:
        text = self.message or self.code or "Stripe refuses the customer"
        return f"{text} ({self.param})" if self.param else text


class _Body(msgspec.Struct):
    error: Error


_decode_error: Final = msgspec.json.Decoder(_Body).decode


def headers(settings: StripeSettings) -> dict[str, str]:
    """Return the headers of every request."""
    return {"authorization": f"Bearer {settings.api_key}", "stripe-version": VERSION.name}


def read_error(response: HttpResponse) -> Error | None:
    """Return the error of a response; None if its body is not the documented one."""
    try:
        return _decode_error(response.body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode_form(values: dict[str, Any]) -> bytes:
    """Return values as a form: members of objects as `name[member]`, elements as `name[0]`, null as an empty text."""
    return urlencode([pair for name, value in values.items() for pair in _pairs(name, value)], safe="[]").encode()


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for member, each in value.items():
            yield from _pairs(f"{name}[{member}]", each)
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _pairs(f"{name}[{index}]", each)
    else:
        yield name, "" if value is None or value == [] else str(value)


async def check(settings: StripeSettings, context: ConnectorContext) -> StripeSettings:
    """Implements `Engine.http_check`. A restricted key needs access to customers."""
    await check_credentials(
        context,
        HttpRequest(method="GET", url=f"{CUSTOMERS_URL}?limit=1", headers=headers(settings)),
        vendor="Stripe",
        member="apiKey",
    )
    return settings
