"""The API of Braze, as far as events and users have it in common: identifiers, limits, responses."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ConnectorContext, HttpRequest, HttpResponse, RateLimit, spread
from headwater.connectors.responses import RETRY_AFTER, Wait

MAX_OBJECTS: Final = 75
"""Objects of one request, in its three arrays together."""
MAX_BODY_BYTES: Final = 4_000_000
MAX_NAME_CHARACTERS: Final = 255
MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each object of a request."""

RATES: Final[tuple[RateLimit, ...]] = (
    spread(3_000, 3, burst=100, group="track", routes=("",)),
    spread(20_000, 60, burst=16, group="users", routes=("identify", "merge")),
)
"""Braze allows 3,000 requests of `/users/track` in 3 seconds, and 20,000 a minute to identify and merge users."""

WAITS: Final = (
    Wait("x-ratelimit-retry-after", "Seconds"),
    RETRY_AFTER,
    Wait("x-ratelimit-reset", "UnixSeconds"),
)
"""The headers of a response to too many requests that state the wait."""


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


def headers(settings: BrazeSettings) -> dict[str, str]:
    """Return the headers of every request."""
    return {"authorization": f"Bearer {settings.api_key}"}


def track_request(settings: BrazeSettings, arrays: Mapping[str, Iterable[bytes]]) -> HttpRequest:
    """Return the request that sends objects, each as JSON, by their array."""
    return post_request(settings, "/users/track", arrays)


def post_request(settings: BrazeSettings, path: str, arrays: Mapping[str, Iterable[bytes]]) -> HttpRequest:
    """Return a request whose body has arrays of objects, each as JSON."""
    members = [b'"%s":[%s]' % (name.encode(), b",".join(objects)) for name, objects in arrays.items()]
    return HttpRequest(
        method="POST",
        url=f"{settings.rest_endpoint}{path}",
        headers=headers(settings) | {"content-type": "application/json"},
        body=b"{%s}" % b",".join(members),
        max_response_bytes=MAX_ERRORS_BYTES,
    )


def read_answer(response: HttpResponse) -> Answer | None:
    """Return the body of a response; None if it is not the documented one."""
    try:
        return _decode_answer(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def find_broken_name(name: str) -> str:
    """Return the rule that the name of a property or an attribute breaks; empty if it breaks none."""
    if name and len(name) <= MAX_NAME_CHARACTERS and not name.startswith("$"):
        return ""
    return f"a name must have 1 to {MAX_NAME_CHARACTERS} characters, and no $ at its start: {name[:50]!r}"


async def check(settings: BrazeSettings, context: ConnectorContext) -> BrazeSettings:
    """Implements `Engine.http_check`. Braze refuses a request without objects with 400, if it accepts the key."""
    await check_credentials(
        context,
        track_request(settings, {}),
        vendor=f"Braze at {settings.rest_endpoint}",
        member="apiKey",
        refused=frozenset({401, 403, 404}),
        accepted=frozenset({400}),
    )
    return settings
