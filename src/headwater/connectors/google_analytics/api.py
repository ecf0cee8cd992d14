"""The Measurement Protocol of Google Analytics: addresses, limits, reserved names, and the check of settings."""

import re
from typing import Final
from urllib.parse import quote

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ConnectorContext, HttpRequest
from headwater.connectors.google_analytics.settings import ORIGINS, GoogleAnalyticsSettings
from headwater.connectors.headers import JSON_HEADERS
from headwater.connectors.settings import invalid

MAX_EVENTS: Final = 25
MAX_BODY_BYTES: Final = 130_000
MAX_AGE_SECONDS: Final = 72 * 3_600.0
MAX_FUTURE_SECONDS: Final = 300.0
"""Google Analytics takes events of the past only. Clocks differ by less than this."""
MAX_PARAMETERS: Final = 25
MAX_ITEMS: Final = 200
MAX_NAME_CHARACTERS: Final = 40
MAX_USER_ID_CHARACTERS: Final = 256
MAX_VALUE_CHARACTERS: Final = 100
MAX_LONG_VALUE_CHARACTERS: Final = {"page_title": 300, "page_referrer": 420, "page_location": 1_000}
MAX_USER_PROPERTIES: Final = 25
MAX_USER_PROPERTY_NAME_CHARACTERS: Final = 24
MAX_USER_PROPERTY_CHARACTERS: Final = 36

RESERVED_PREFIXES: Final = ("_", "firebase_", "ga_", "google_", "gtag.")
RESERVED_EVENTS: Final = frozenset(
    {
        "ad_activeview",
        "ad_click",
        "ad_exposure",
        "ad_query",
        "ad_reward",
        "adunit_exposure",
        "app_background",
        "app_clear_data",
        "app_exception",
        "app_install",
        "app_remove",
        "app_store_refund",
        "app_store_subscription_cancel",
        "app_store_subscription_convert",
        "app_store_subscription_renew",
        "app_update",
        "app_upgrade",
        "dynamic_link_app_open",
        "dynamic_link_app_update",
        "dynamic_link_first_open",
        "error",
        "firebase_campaign",
        "firebase_in_app_message_action",
        "firebase_in_app_message_dismiss",
        "firebase_in_app_message_impression",
        "first_open",
        "first_visit",
        "in_app_purchase",
        "notification_dismiss",
        "notification_foreground",
        "notification_open",
        "notification_receive",
        "notification_send",
        "os_update",
        "session_start",
        "session_start_with_rollout",
        "user_engagement",
    }
)
"""Events that Google Analytics makes itself. It drops those that are sent."""
RESERVED_USER_PROPERTIES: Final = frozenset(
    {"first_open_after_install", "first_open_time", "first_visit_time", "last_deep_link_referrer", "user_id"}
)

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def is_name(text: str, max_characters: int = MAX_NAME_CHARACTERS) -> bool:
    """Return whether the text can be the name of an event or a parameter, or of a user property with its limit."""
    return len(text) <= max_characters and _NAME.fullmatch(text) is not None


def make_url(settings: GoogleAnalyticsSettings, path: str) -> str:
    """Return the URL with the credentials, which the protocol has in the query."""
    id_, secret = quote(settings.measurement_id, safe=""), quote(settings.api_secret, safe="")
    return f"{ORIGINS[settings.collection_endpoint]}{path}?measurement_id={id_}&api_secret={secret}"


class _Message(msgspec.Struct):
    description: str = ""


class _Validation(msgspec.Struct, rename="camel"):
    validation_messages: list[_Message]


async def check(settings: GoogleAnalyticsSettings, context: ConnectorContext) -> GoogleAnalyticsSettings:
    """Implements `Engine.http_check`. It sends a valid event to the validation server, which stores nothing.

    Google checks neither the secret nor whether the stream exists: wrong ones are accepted.
    """
    event = {"name": "login", "params": {"method": "headwater"}}
    response = await check_credentials(
        context,
        HttpRequest(
            method="POST",
            url=make_url(settings, "/debug/mp/collect"),
            headers=JSON_HEADERS,
            body=msgspec.json.encode({"client_id": "headwater", "events": [event]}),
        ),
        vendor="Google Analytics",
        member="measurementID",
    )
    try:
        messages = msgspec.json.decode(response.body, type=_Validation).validation_messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("Google Analytics cannot check the settings at present") from None
    if messages:
        text = context.redact(messages[0].description)[:200]
        raise invalid("settings.measurementID", f"is not accepted by Google Analytics: {text}")
    return settings
