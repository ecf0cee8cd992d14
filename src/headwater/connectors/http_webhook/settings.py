"""The settings of a webhook: the endpoint, the secrets that sign, headers, and the form of requests."""

import re
from typing import Annotated, Any, Final, Literal, Self

from headwater.connectors.addresses import find_broken_url_rule
from headwater.connectors.http_webhook.signatures import PREFIX, decode_secret
from headwater.connectors.settings import PRINTABLE, Choice, Format, List, Number, Settings, Text, invalid

MAX_BATCH_EVENTS: Final = 500

RESERVED_HEADERS: Final = frozenset(
    (
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection"),
        *("te", "trailer", "upgrade", "expect", "content-type", "content-encoding", "accept-encoding"),
    )
)
"""Headers that settings cannot set: those of the signature, of the connection, and of the form of the body."""

_TOKEN: Final = Format(re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), "must be the name of a header")


def _find_broken_name_rule(text: str) -> str | None:
    return "is set by the connector" if text.lower() in RESERVED_HEADERS else None


def _find_broken_secret_rule(text: str) -> str | None:
    try:
        decode_secret(text)
    except ValueError as error:
        return str(error)
    return None


class WebhookHeader(Settings, frozen=True, kw_only=True):
    """A header of each request."""

    key: Annotated[str, Text(1, 100, _TOKEN, _find_broken_name_rule)]
    value: Annotated[str, Text(1, 8_000, PRINTABLE, secret=True)]


class WebhookSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    url: Annotated[
        str,
        Text(
            1,
            2_000,
            check=find_broken_url_rule,
            help="Events are sent to it with POST. It is shown in previews: use headers for passwords and tokens.",
        ),
    ]
    secret: Annotated[
        str,
        Text(
            1,
            200,
            check=_find_broken_secret_rule,
            label="Signing secret",
            secret=True,
            help="Signs each request: whsec_ and the base64 of 24 to 64 random bytes.",
        ),
    ]
    previous_secret: Annotated[
        str | None,
        Text(
            1,
            200,
            check=_find_broken_secret_rule,
            label="Previous signing secret",
            secret=True,
            help="Signs too, until your receiver has the new secret.",
        ),
    ] = None
    headers: Annotated[tuple[WebhookHeader, ...], List(help="Are added to each request.")] = ()
    batch_size: Annotated[
        int, Number(1, MAX_BATCH_EVENTS, help="The maximum number of events in a request. 1 sends each one alone.")
    ] = 1
    format: Annotated[
        Literal["Envelope", "JSON", "NDJSON"],
        Choice(help="Envelope: type, timestamp and data. JSON: the data alone. NDJSON: the data alone, a line each."),
    ] = "Envelope"

    @classmethod
    def read(cls, given: object, path: str = "settings") -> Self:
        settings = super().read(given, path)
        seen = set[str]()
        for index, header in enumerate(settings.headers):
            name = header.key.lower()
            if name in seen:
                raise invalid(f"{path}.headers[{index}].key", "is repeated")
            seen.add(name)
        return settings

    def secrets(self) -> tuple[str, ...]:
        """Return the secret values, and the signing keys without their prefix."""
        values = super().secrets()
        return (*values, *(value.removeprefix(PREFIX) for value in values if value.startswith(PREFIX)))

    @property
    def sent_headers(self) -> dict[str, Any]:
        """The headers by their names in lower case."""
        return {header.key.lower(): header.value for header in self.headers}

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The keys that sign each request: the present one first."""
        return tuple(decode_secret(secret) for secret in (self.secret, self.previous_secret) if secret)
