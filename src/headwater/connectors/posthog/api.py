"""The API of PostHog: addresses, limits, and the check of settings."""

from typing import Any, Final

import msgspec

from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ConnectorContext, HttpRequest
from headwater.connectors.headers import JSON_HEADERS
from headwater.connectors.posthog.settings import PostHogSettings
from headwater.connectors.settings import invalid

MAX_BATCH_EVENTS: Final = 1_000
MAX_BODY_BYTES: Final = 5_000_000
"""PostHog accepts 20 MB. Its own libraries send at most this much, and events of at most `MAX_EVENT_BYTES`."""
MAX_EVENT_BYTES: Final = 900_000
"""PostHog accepts 1 MB, of a form in which quotation marks are longer."""
MAX_NAME_CHARACTERS: Final = 200
MAX_DISTINCT_ID_CHARACTERS: Final = 200
MAX_GROUP_CHARACTERS: Final = 400
MAX_FUTURE_SECONDS: Final = 23 * 3_600.0
HISTORICAL_SECONDS: Final = 48 * 3_600.0
"""Age of events that are sent as historical ones."""
QUOTA_WAIT_SECONDS: Final = 60.0
"""Minimum pause of a destination whose quota is used up. Each further one is longer."""

_MAX_FLAGS_BYTES: Final = 1 << 20


async def check(settings: PostHogSettings, context: ConnectorContext) -> PostHogSettings:
    """Implements `Engine.http_check`. It asks for feature flags, because requests with events create events.

    PostHog evaluates no flag for it, and bills nothing.
    """
    body = {"api_key": settings.api_key, "distinct_id": "headwater", "disable_flags": True}
    response = await check_credentials(
        context,
        HttpRequest(
            method="POST",
            url=f"{settings.origin}/flags/?v=2",
            headers=JSON_HEADERS,
            body=msgspec.json.encode(body),
            max_response_bytes=_MAX_FLAGS_BYTES,
        ),
        vendor="PostHog" if settings.cloud is None else f"PostHog in the region {settings.cloud.project_region}",
        member="apiKey",
        accepted=frozenset({402, 404}),
    )
    if response.status != 402 and not _has_flags(response.body):
        raise invalid(
            "settings" if settings.self_hosted is None else "settings.selfHosted.url",
            "is not accepted: there is no PostHog server that responds to /flags/",
        )
    return settings


def _has_flags(body: bytes) -> bool:
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(answer, dict) and bool({"flags", "featureFlags", "quotaLimited"} & answer.keys())
