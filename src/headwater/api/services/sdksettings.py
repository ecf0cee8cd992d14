"""Settings that SDKs request once and keep."""

from google.api.httpbody_pb2 import HttpBody

from headwater.api.request import Context
from headwater.intake.sdksettings import CACHED

AUTHORITY_HEADER = "x-headwater-authority"
SCHEME_HEADER = "x-headwater-scheme"
"""Where the gateway says how the caller reached it: host and port, and what a proxy before it says of the scheme."""


async def send_settings(context: Context, settings: bytes) -> HttpBody:
    """Return the response, which may be cached for a while."""
    await context.send_initial_metadata((("cache-control", CACHED), ("vary", "x-forwarded-proto")))
    return HttpBody(content_type="application/json", data=settings)


def read_address(metadata: dict[str, str]) -> tuple[str, str]:
    """Return the scheme and the authority of the caller's request."""
    scheme = metadata.get(SCHEME_HEADER, "").lower() or metadata.get("x-forwarded-proto", "").lower()
    return ("https" if scheme == "https" else "http", metadata.get(AUTHORITY_HEADER, ""))
