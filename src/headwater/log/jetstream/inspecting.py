"""Reads the state of a NATS server without changing it."""

import json
import re
from datetime import UTC, datetime

import nats.errors
from nats.aio.client import Client

from headwater.log.jetstream.log import DEFAULT_STREAM


async def inspect_nats(url: str, timeout_seconds: int) -> tuple[tuple[int, ...], float | None]:
    """Return the version of the server, and the seconds that its clock is ahead; None if it has no stream yet.

    Raises OSError, or RuntimeError with the reason, if NATS or JetStream cannot be used.
    """
    client = Client()
    try:
        await client.connect(
            url.split(","),
            name="headwater doctor",
            allow_reconnect=False,
            max_reconnect_attempts=1,  # otherwise the first connection is tried for minutes
            reconnect_time_wait=0,
            connect_timeout=timeout_seconds,
            error_cb=_ignore,
        )
        version = tuple(map(int, re.findall(r"\d+", str(client.connected_server_version))[:3]))
        before = datetime.now(UTC)
        response = await client.request(f"$JS.API.STREAM.INFO.{DEFAULT_STREAM}", timeout=timeout_seconds)
        after = datetime.now(UTC)
        time = json.loads(response.data).get("ts")
    except nats.errors.NoRespondersError:
        raise RuntimeError("JetStream is not enabled") from None
    except nats.errors.Error as error:
        raise RuntimeError(str(error)) from None
    finally:
        await client.close()
    if time is None:
        return version, None
    parsed = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", time))
    return version, (parsed - (before + (after - before) / 2)).total_seconds()


async def _ignore(error: Exception) -> None:
    """Errors are raised by the calls."""
