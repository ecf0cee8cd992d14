"""Answers that SDKs ask for once and keep: the settings of their source."""

from google.api.httpbody_pb2 import HttpBody

from headwater.api.request import Context
from headwater.intake.sdksettings import CACHED

AUTHORITY_HEADER = "x-headwater-authority"
SCHEME_HEADER = "x-headwater-scheme"
"""Where the gateway says how the caller reached it: host and port, and what a proxy before it says of the scheme."""


async def send_settings(context: Context, settings: bytes) -> HttpBody:
    """The answer, which may be kept for a while."""
    await context.send_initial_metadata((("cache-control", CACHED), ("vary", "x-forwarded-proto")))
    return HttpBody(content_type="application/json", data=settings)


def address_of(metadata: dict[str, str]) -> tuple[str, str]:
    """Scheme and authority at which the caller reached us."""
    scheme = metadata.get(SCHEME_HEADER, "").lower() or metadata.get("x-forwarded-proto", "").lower()
    return ("https" if scheme == "https" else "http", metadata.get(AUTHORITY_HEADER, ""))
