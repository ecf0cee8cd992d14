"""The settings that SDKs request before they send events: where to send them, and that no other destination is active.

Every holder of a write key may read them; the key is in every page and app that does.
"""

from typing import Any, Final

import msgspec

from headwater.base.errors import NotFound, Unauthorized
from headwater.catalog import Catalog

CACHED: Final = "public, max-age=3600, stale-while-revalidate=10800"
"""Cache lifetime of a response (`Cache-Control`), because every page view requests it."""

_DESTINATIONS: Final = ("Segment.io", "Customer.io Data Pipelines")
"""The names under which the SDKs of the Segment family know their own event destination. An SDK treats any other name
as a destination that runs on the device; `unbundled` states that none does."""

_encode = msgspec.json.Encoder().encode


async def native_settings(catalog: Catalog, write_key: str) -> bytes:
    """Return the settings of the native SDKs as JSON.

    Raises Unauthorized for an unknown key, and for a source without a strategy for anonymous users.
    """
    source = await catalog.get_or_refresh(catalog.find_source, write_key)
    if source is None:
        raise Unauthorized("the write key is not known")
    if source.strategy is None:
        raise Unauthorized("the write key is not that of a client-side source")
    # These SDKs know the server that they send to under this name.
    return _encode({"strategy": source.strategy, "integrations": {"Krenalis": {"apiKey": write_key}}})


async def project_settings(catalog: Catalog, write_key: str, *, scheme: str, authority: str) -> bytes:
    """Return the settings of the browser and mobile SDKs of the Segment family as JSON.

    `scheme` and `authority` ("https", "events.example.com") are the address under which the caller reached this server;
    events are sent there. Raises NotFound for an unknown key.
    """
    if await catalog.get_or_refresh(catalog.find_source, write_key) is None:
        raise NotFound("the write key is not known", field="writeKey")
    destination = {
        "apiKey": write_key,
        "apiHost": f"{authority}/v1",
        "protocol": scheme,
        "type": "server",
        "bundlingStatus": "unbundled",
        "unbundledIntegrations": [],
    }
    allowed: dict[str, Any] = {"__default": {"enabled": True, "integrations": {}}}
    settings = {
        "integrations": dict.fromkeys(_DESTINATIONS, destination),
        "plan": {"track": allowed, "identify": allowed, "group": allowed},
        "edgeFunction": {},
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},  # or SDKs report their own metrics to another server
        "legacyVideoPluginsEnabled": False,
        "analyticsNextEnabled": True,
        "remotePlugins": [],
    }
    return _encode(settings)
