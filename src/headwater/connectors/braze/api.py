"""The API of Braze, as far as events and users have it in common: identifiers, limits, responses."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ConnectorContext, HttpRequest, HttpResponse, RateLimit, spread
from headwater.connectors.identities import is_placeholder

MAX_OBJECTS: Final = 75
"""Objects of one request, in its three arrays together."""
MAX_BODY_BYTES: Final = 4_000_000
MAX_PROPERTIES_BYTES: Final = 50_000
MAX_NAME_CHARACTERS: Final = 255
MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each object of a request."""

RATES: Final[tuple[RateLimit, ...]] = (spread(3_000, 3, burst=100, group="track"),)
"""Braze allows 3,000 requests in 3 seconds."""

RESERVED_NAMES: Final = frozenset(
    {
        "_update_existing_only",
        "app_id",
        "braze_id",
        "external_id",
        "push_token_import",
        "push_tokens",
        "subscription_groups",
        "user_alias",
    }
)
"""Members of an object of attributes that are no attributes, or change more than one."""


class ObjectError(msgspec.Struct):
    """One error of a response, about the object at an index of an array; None if it is about none."""

    type: str = ""
    input_array: str = ""
    index: int | None = None


class Answer(msgspec.Struct):
    """The body of a response."""

    message: str
    events_processed: int | None = None
    purchases_processed: int | None = None
    errors: list[ObjectError | str] = []

    @property
    def is_success(self) -> bool:
        """Return whether Braze has what it does not name in errors. During maintenance it queues it."""
        return self.message in ("success", "queued")

    def named(self) -> Iterator[tuple[str, int, str]]:
        """Yield the array, the index and the text of each error about an object."""
        for each in self.errors:
            if isinstance(each, ObjectError) and each.index is not None:
                yield each.input_array, each.index, each.type or "no reason is given"


_decode_answer: Final = msgspec.json.Decoder(Answer).decode
_encode: Final = msgspec.json.Encoder().encode


def track_request(settings: BrazeSettings, arrays: Mapping[str, Iterable[bytes]]) -> HttpRequest:
    """Return the request that sends objects, each as JSON, by their array."""
    members = [b'"%s":[%s]' % (name.encode(), b",".join(objects)) for name, objects in arrays.items()]
    return HttpRequest(
        method="POST",
        url=f"{settings.rest_endpoint}/users/track",
        headers={"authorization": f"Bearer {settings.api_key}", "content-type": "application/json"},
        body=b"{%s}" % b",".join(members),
        max_response_bytes=MAX_ERRORS_BYTES,
    )


def read_answer(response: HttpResponse) -> Answer | None:
    """Return the body of a response; None if it is not the documented one."""
    try:
        return _decode_answer(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def identify_user(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the one identifier of a user; empty without one that is no placeholder."""
    for name in ("external_id", "email", "phone"):
        if not is_placeholder(values.get(name) or ""):
            return {name: values[name]}
    return {}


def find_broken_attribute(attributes: Mapping[str, Any]) -> str:
    """Return the rule of Braze that custom attributes break; empty if they break none."""
    for name, value in attributes.items():
        if rule := find_broken_name(name):
            return rule
        if name in RESERVED_NAMES:
            return f"{name} is reserved, and cannot be the name of an attribute"
        if b"null" in (body := _encode(value)) and body != b"null" and _has_null(msgspec.json.decode(body)):
            return f"attribute {name!r} has null inside, for which Braze drops all of it"
    return ""


def find_broken_name(name: str) -> str:
    """Return the rule that the name of a property or an attribute breaks; empty if it breaks none."""
    if name and len(name) <= MAX_NAME_CHARACTERS and not name.startswith("$"):
        return ""
    return f"a name must have 1 to {MAX_NAME_CHARACTERS} characters, and no $ at its start: {name[:50]!r}"


def _has_null(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(each is None or _has_null(each) for each in values)


async def check(settings: BrazeSettings, context: ConnectorContext) -> BrazeSettings:
    """Implements `Engine.http_check`. Braze refuses a request without objects with 400, if it accepts the key."""
    await check_credentials(
        context,
        track_request(settings, {}),
        vendor="Braze",
        member="apiKey",
        refused=frozenset({401, 403, 404}),
        accepted=frozenset({400}),
    )
    return settings
