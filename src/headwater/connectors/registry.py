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
    brevo,
    customerio,
    dummy,
    google_analytics,
    http_webhook,
    hubspot,
    klaviyo,
    mailchimp,
    mailerlite,
    meta_conversions,
    mixpanel,
    posthog,
    salesforce,
    sample_oauth_app,
    segment_api,
    slack,
    stripe,
)
from headwater.connectors.catalogue import (
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
                *databases.CONNECTORS,
                *file_formats.CONNECTORS,
                *file_storages.CONNECTORS,
                *message_brokers.CONNECTORS,
                *sdks.CONNECTORS,
                *webhooks.CONNECTORS,
                amplitude.CONNECTOR,
                braze.CONNECTOR,
                brevo.CONNECTOR,
                customerio.CONNECTOR,
                dummy.CONNECTOR,
                google_analytics.CONNECTOR,
                http_webhook.CONNECTOR,
                hubspot.CONNECTOR,
                klaviyo.CONNECTOR,
                mailchimp.CONNECTOR,
                mailerlite.CONNECTOR,
                meta_conversions.CONNECTOR,
                mixpanel.CONNECTOR,
                posthog.CONNECTOR,
                salesforce.CONNECTOR,
                sample_oauth_app.CONNECTOR,
                segment_api.CONNECTOR,
                slack.CONNECTOR,
                stripe.CONNECTOR,
            ),
            key=lambda connector: connector.code,
        )
    }
)
"""Sorted by code, as in lists."""
