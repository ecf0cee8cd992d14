"""The health of the system on this machine, for the health checks of containers.

Only the standard library is used: a check must cost little, because it runs every few seconds.
"""

import asyncio

from headwater.server.probe import request
from headwater.server.settings import Settings

TIMEOUT_SECONDS = 5.0


def check(settings: Settings) -> str | None:
    """Return the reason why the system of these settings does not serve calls; None if it serves them."""
    try:
        status, body = asyncio.run(
            request(
                "GET",
                "/healthz",
                (settings.local_host, settings.port),
                TIMEOUT_SECONDS,
                tls=settings.tls_cert is not None,
            )
        )
    except TimeoutError:
        return f"no response from {settings.base_url} within {TIMEOUT_SECONDS:g} seconds"
    except OSError as error:
        return f"no connection to {settings.base_url}: {error.strerror or error}"
    return None if status == 200 else f"status {status}: {body[:200].strip()}"
