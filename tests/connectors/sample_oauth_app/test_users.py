"""The users of the sample OAuth app: the conformance suite, and responses that are not valid."""

from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import HttpRequest, HttpResponse, UserSource
from headwater.connectors.sample_oauth_app.users import SampleUsers
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.sample_oauth_app.test_authorization import CLIENT

USERS = [
    {
        "id": f"u{number}",
        "email": f"{number}@example.com",
        "name": None,
        "updatedAt": f"2026-05-04T12:{number % 60:02}:00Z",
    }
    for number in range(230)
]


def respond(request: HttpRequest) -> HttpResponse:
    query = {name: int(value) for name, [value] in parse_qs(urlsplit(request.url).query).items()}
    page = USERS[query["offset"] : query["offset"] + query["limit"]]
    return HttpResponse(status=200, body=msgspec.json.encode({"users": page}))


def make(http: ScriptedHttp) -> SampleUsers:
    return SampleUsers(msgspec.structs.replace(make_context(http), oauth_client=CLIENT))


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        return make(ScriptedHttp(respond))


async def test_requests_are_authorized() -> None:
    http = ScriptedHttp(respond)
    await make(http).users("")
    assert [request.authorize for request in http.requests] == [True]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (401, b""),
        (200, b"{}"),
        (200, b"<html>"),
        (200, b'{"users":[{"id":1}]}'),
        (200, msgspec.json.encode({"users": USERS[:101]})),
    ],
)
async def test_other_responses_are_unavailable(status: int, body: bytes) -> None:
    with pytest.raises(Unavailable):
        await make(ScriptedHttp(lambda _: HttpResponse(status=status, body=body))).users("")
