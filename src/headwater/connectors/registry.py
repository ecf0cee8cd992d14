"""All connectors by code: the documented ones of the catalogue, and those with a package of their own.

Connectors without an engine are listed too, so that a request for one fails with the documented reason; `available`
distinguishes them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headwater.connectors import (
    amplitude,
    braze,
    customerio,
    dummy,
    google_analytics,
    http_webhook,
    klaviyo,
    mailchimp,
    mailerlite,
    mixpanel,
    posthog,
    sample_oauth_app,
    segment_api,
    stripe,
)
from headwater.connectors.catalogue import (
    applications,
    databases,
    file_formats,
    file_storages,
    message_brokers,
    sdks,
    webhooks,
)
from headwater.connectors.connector import Connector

CONNECTORS: Final[Mapping[str, Connector]] = MappingProxyType(
    {
        connector.code: connector
        for connector in sorted(
            (
                *applications.CONNECTORS,
                *databases.CONNECTORS,
                *file_formats.CONNECTORS,
                *file_storages.CONNECTORS,
                *message_brokers.CONNECTORS,
                *sdks.CONNECTORS,
                *webhooks.CONNECTORS,
                amplitude.CONNECTOR,
                braze.CONNECTOR,
                customerio.CONNECTOR,
                dummy.CONNECTOR,
                google_analytics.CONNECTOR,
                http_webhook.CONNECTOR,
                klaviyo.CONNECTOR,
                mailchimp.CONNECTOR,
                mailerlite.CONNECTOR,
                mixpanel.CONNECTOR,
                posthog.CONNECTOR,
                sample_oauth_app.CONNECTOR,
                segment_api.CONNECTOR,
                stripe.CONNECTOR,
            ),
            key=lambda connector: connector.code,
        )
    }
)
"""Sorted by code, as in lists."""
