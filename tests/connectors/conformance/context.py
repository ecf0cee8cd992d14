"""The context of connectors under test: a scripted HTTP client, a clock that stands still, a logger."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from headwater.connectors.addresses import ANY_ADDRESS, AddressPolicy
from headwater.connectors.contract import ConnectorContext, HttpClient, HttpRequest, HttpResponse, TransportError
from headwater.connectors.redaction import Redactor

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)

Responder = Callable[[HttpRequest], HttpResponse | TransportError]


class FixedClock:
    """A clock that shows `moment` until a test changes it."""

    def __init__(self, moment: datetime = NOW) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


def ok(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=200)


class ScriptedHttp:
    """An `HttpClient` that responds with the result of a function and keeps the requests."""

    def __init__(self, respond: Responder = ok) -> None:
        self.respond = respond
        self.requests: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        response = self.respond(request)
        if isinstance(response, TransportError):
            raise response
        return response


def make_context(
    http: HttpClient | None = None,
    clock: FixedClock | None = None,
    secrets: Iterable[str] = (),
    addresses: AddressPolicy = ANY_ADDRESS,
    filesystem_root: Path | None = None,
    data_folder: Path | None = None,
) -> ConnectorContext:
    return ConnectorContext(
        http=http or ScriptedHttp(),
        clock=clock or FixedClock(),
        logger=structlog.get_logger("tests.connectors"),
        redact=Redactor(secrets).redact,
        addresses=addresses,
        filesystem_root=filesystem_root,
        data_folder=data_folder,
    )
