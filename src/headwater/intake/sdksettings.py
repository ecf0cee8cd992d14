"""What SDKs ask for before they send anything: where events go, and that nothing else is to be done with them.

Whoever has a write key may ask: it is in every page and app that would.
"""

from typing import Any, Final

import msgspec

from headwater.base.errors import NotFound, Unauthorized
from headwater.catalog import Catalog

CACHED: Final = "public, max-age=3600, stale-while-revalidate=10800"
"""How long an answer may be kept (`Cache-Control`): every page view asks."""

_DESTINATIONS: Final = ("Segment.io", "Customer.io Data Pipelines")
"""The names by which each SDK of the Segment family knows where its events go. An SDK takes the other names for a
destination of its own, to be run on the device: `unbundled` says that there is nothing to run."""

_encode = msgspec.json.Encoder().encode


async def native_settings(catalog: Catalog, write_key: str) -> bytes:
    """The settings of the native SDKs, as JSON.

    Raises Unauthorized for a key that is not known, or of a source that has no strategy for anonymous users.
    """
    source = await catalog.seek(catalog.source_of, write_key)
    if source is None:
        raise Unauthorized("the write key is not known")
    if source.strategy is None:
        raise Unauthorized("the write key is not that of a client-side source")
    # The name is the one by which these SDKs know the server that they send to.
    return _encode({"strategy": source.strategy, "integrations": {"Krenalis": {"apiKey": write_key}}})


async def project_settings(catalog: Catalog, write_key: str, *, scheme: str, authority: str) -> bytes:
    """The settings of the Segment family's browser and mobile SDKs, as JSON.

    `scheme` and `authority` ("https", "events.example.com") are where the caller reaches this server: there the events
    go. Raises NotFound for a key that is not known.
    """
    if await catalog.seek(catalog.source_of, write_key) is None:
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
        "metrics": {"sampleRate": 0},  # or they report on themselves, to somebody else
        "legacyVideoPluginsEnabled": False,
        "analyticsNextEnabled": True,
        "remotePlugins": [],
    }
    return _encode(settings)
