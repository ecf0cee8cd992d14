"""Asks a vendor whether it accepts the settings of a connection. It implements `Engine.http_check`."""

from collections.abc import Set as AbstractSet
from typing import Final

from headwater.base.errors import Unavailable
from headwater.connectors.contract import ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.responses import read_safe_text
from headwater.connectors.settings import invalid

REFUSED: Final = frozenset({401, 403})
"""The statuses of refused credentials."""


async def check_credentials(
    context: ConnectorContext,
    request: HttpRequest,
    *,
    vendor: str,
    member: str,
    refused: AbstractSet[int] = REFUSED,
    accepted: AbstractSet[int] = frozenset(),
) -> HttpResponse:
    """Send a request that changes nothing, and return the response if it is a success or has an `accepted` status.

    Raises Unprocessable with InvalidSettings and `settings.<member>` if the vendor refuses the credentials, and
    Unavailable if it does not respond, or responds otherwise.
    """
    response = await context.http.send(request)
    if 200 <= response.status < 300 or response.status in accepted:
        return response
    if response.status in refused:
        text = read_safe_text(response, context, 200)
        raise invalid(f"settings.{member}", f"is not accepted by {vendor} (status {response.status}): {text}")
    raise Unavailable(f"{vendor} cannot check the settings at present: it responds with status {response.status}")
