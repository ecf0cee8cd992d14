"""Names members of the context of an event as PostHog's own libraries do, so that its reports find them."""

from typing import Any, Final
from urllib.parse import urlsplit

_MEMBERS: Final[dict[str, str]] = {"locale": "$locale", "timezone": "$timezone", "userAgent": "$raw_user_agent"}
"""The property of a member of the context."""
_PARTS: Final[dict[str, dict[str, str]]] = {
    "app": {"build": "$app_build", "name": "$app_name", "namespace": "$app_namespace", "version": "$app_version"},
    "browser": {"name": "$browser", "version": "$browser_version"},
    "campaign": {
        "content": "utm_content",
        "medium": "utm_medium",
        "name": "utm_campaign",
        "source": "utm_source",
        "term": "utm_term",
    },
    "device": {"manufacturer": "$device_manufacturer", "model": "$device_model"},
    "library": {"name": "$lib", "version": "$lib_version"},
    "network": {"carrier": "$network_carrier"},
    "os": {"name": "$os", "version": "$os_version"},
    "page": {"path": "$pathname", "referrer": "$referrer", "title": "$title", "url": "$current_url"},
    "screen": {"height": "$screen_height", "width": "$screen_width"},
}
"""The properties of the parts of a member of the context."""
_USABLE: Final = frozenset({str, int, float})
_HOSTS: Final = (("$host", "$current_url"), ("$referring_domain", "$referrer"))


def describe_context(context: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of PostHog that a context has: texts and numbers. Parts of another type are left out."""
    properties: dict[str, Any] = {}
    for member, value in context.items():
        if member in _PARTS and isinstance(value, dict):
            names = _PARTS[member]
            for part, each in value.items():
                if part in names and _is_usable(each):
                    properties[names[part]] = each
        elif member in _MEMBERS and _is_usable(value):
            properties[_MEMBERS[member]] = value
    if properties.get("$os") == "macOS":
        properties["$os"] = "Mac OS X"
    for name, url in _HOSTS:
        if url in properties and (host := _find_host(properties[url])):
            properties[name] = host
    return properties


def _is_usable(value: object) -> bool:
    return type(value) in _USABLE and value != ""


def _find_host(url: object) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2] if isinstance(url, str) else ""
    except ValueError:
        return ""
