"""Responses that no documentation has: any status, and bodies that resemble the documented ones."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from headwater.connectors.contract import ConnectorContext, EventSink, HttpResponse, Outcome, OutgoingEvent, SendResult
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST

STATUSES = st.sampled_from([200, 201, 202, 204, 207, 302, 400, 401, 403, 404, 413, 422, 429, 500])
INDEXES = st.one_of(st.integers(-2, 5), st.none(), st.sampled_from(["0", 1.5, True, 2**70]))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
NONSENSE = st.sampled_from([b"", b"<html>ok</html>", b'{"message":"succ', b"[" * 9_000, b"null", b"[]", b"\xff", b"{}"])


def bodies(objects: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return bodies: the given objects as JSON, whole or cut, and nonsense."""
    texts = objects.map(msgspec.json.encode)
    cut = st.builds(lambda text, length: text[:length], texts, st.integers(0, 60))
    return st.one_of(texts, texts, cut, NONSENSE)


async def send(
    make: Callable[[ConnectorContext], EventSink],
    events: Sequence[OutgoingEvent],
    status: int,
    body: bytes,
    *,
    knows_repetitions: bool = False,
) -> SendResult:
    """Send events, and return the result: it has an outcome for each, and a reason for those that are refused.

    With `knows_repetitions` an error can state that the vendor has an event.
    """
    sink = make(make_context(ScriptedHttp(lambda _: HttpResponse(status=status, body=body))))
    encoded = [sink.encode(each) for each in events]
    result = await sink.send(sink.request(encoded, FIRST), encoded)
    assert len(result.items) == len(events)
    for item in result.items:
        assert item.outcome is Outcome.DELIVERED or item.reason or result.failure is not None
        is_possible = result.failure is None and (status < 300 or knows_repetitions)
        assert item.outcome is not Outcome.DELIVERED or is_possible
    return result
