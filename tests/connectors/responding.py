"""Responses in any form, for properties of the code that reads them."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from headwater.base.errors import Unavailable
from headwater.connectors.contract import HttpResponse, Outcome, UserSink, UserWrite

STATUSES: Final = (200, 201, 204, 302, 400, 404, 422, 429, 500)


def responses(names: Sequence[str], form: str, texts: Sequence[str] = ()) -> st.SearchStrategy[HttpResponse]:
    """Return responses with JSON of any kind, its beginning, and pages.

    Objects have members of these names, and values have the texts. Some bodies have the form, with two such values.
    """
    scalars: st.SearchStrategy[Any] = st.sampled_from((None, True, 0, 7, 200, 201, 404, 500, "", "x", "7", *texts))
    json = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=4),
        max_leaves=10,
    ).map(lambda value: msgspec.json.encode(value).decode())
    formed = st.tuples(json, json).map(lambda pair: form % pair)
    truncated = formed.flatmap(lambda text: st.integers(0, len(text)).map(lambda length: text[:length]))
    body = st.one_of(json, formed, truncated).map(str.encode) | st.sampled_from(
        [b"", b"<html>welcome</html>", b"\xff", b"[" * 5_000]
    )
    return st.builds(HttpResponse, status=st.sampled_from(STATUSES), body=body)


async def check_writes(sink: UserSink, users: Sequence[UserWrite], response: HttpResponse) -> None:
    """Check the results of users, of which each request has the response: each has one, and none is written without a
    success and an id."""
    try:
        results = await sink.write_users(users)
    except Unavailable:
        return
    assert len(results) == len(users)
    for user, result in zip(users, results, strict=True):
        if result.outcome is Outcome.DELIVERED:
            assert response.status < 300 and result.id and b"<" not in response.body
            assert result.id == user.id or result.id.encode() in response.body
        elif result.outcome is not Outcome.NOT_ATTEMPTED:
            assert result.reason and result.message
