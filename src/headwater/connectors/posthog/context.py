"""Names members of the context of an event as PostHog's own libraries do, so that its reports find them."""

from typing import Any, Final
from urllib.parse import urlsplit

from headwater.connectors.contexts import find_text

_MEMBERS: Final = (
    ("$current_url", "page", "url"),
    ("$pathname", "page", "path"),
    ("$referrer", "page", "referrer"),
    ("$title", "page", "title"),
    ("utm_source", "campaign", "source"),
    ("utm_medium", "campaign", "medium"),
    ("utm_campaign", "campaign", "name"),
    ("utm_term", "campaign", "term"),
    ("utm_content", "campaign", "content"),
    ("$raw_user_agent", "userAgent", ""),
    ("$browser", "browser", "name"),
    ("$browser_version", "browser", "version"),
    ("$os", "os", "name"),
    ("$os_version", "os", "version"),
    ("$device_manufacturer", "device", "manufacturer"),
    ("$device_model", "device", "model"),
    ("$app_name", "app", "name"),
    ("$app_version", "app", "version"),
    ("$app_build", "app", "build"),
    ("$app_namespace", "app", "namespace"),
    ("$network_carrier", "network", "carrier"),
    ("$locale", "locale", ""),
    ("$timezone", "timezone", ""),
    ("$lib", "library", "name"),
    ("$lib_version", "library", "version"),
)
"""The property, and the member of the context that it has, with a member of that."""
_NUMBERS: Final = (("$screen_width", "width"), ("$screen_height", "height"))


def describe_context(context: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of PostHog that a context has."""
    properties: dict[str, Any] = {}
    for name, member, part in _MEMBERS:
        if member in context and (text := find_text(context, member, part)):
            properties[name] = text
    screen = context.get("screen")
    if isinstance(screen, dict):
        properties.update((name, screen[part]) for name, part in _NUMBERS if isinstance(screen.get(part), int | float))
    if properties.get("$os") == "macOS":
        properties["$os"] = "Mac OS X"
    for name, url in (("$host", "$current_url"), ("$referring_domain", "$referrer")):
        if url in properties and (host := _find_host(properties[url])):
            properties[name] = host
    return properties


def _find_host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""
