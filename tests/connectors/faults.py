"""A sink of events with the real HTTP client against a real server that fails in every way that networks have.

The conformance suite plays the destination without a network; here are the bytes. Each case states the outcome of the
events, which are never delivered, and the scope of the failure.
"""

import asyncio
import gzip
import ssl
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from headwater.connectors.addresses import ANY_ADDRESS, AddressPolicy
from headwater.connectors.contract import (
    UNEXPECTED_RESPONSE,
    ConnectorContext,
    EncodedEvent,
    EventSink,
    FailureScope,
    HttpRequest,
    Outcome,
    OutgoingEvent,
    SendResult,
    TransportFailure,
)
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.http import AiohttpClient, RecordingClient
from headwater.connectors.redaction import Redactor, format_request
from headwater.connectors.responses import MAX_WAIT_SECONDS
from headwater.connectors.settings import REDACTED, Settings
from tests.connectors.conformance.context import FixedClock
from tests.connectors.conformance.event_sink import FIRST
from tests.connectors.server import Reply, Server, hang, reset, response, self_signed, serving

DESTINATION, BATCH, CLOSED, CREDENTIALS = (
    FailureScope.DESTINATION,
    FailureScope.BATCH,
    FailureScope.CLOSED,
    FailureScope.CREDENTIALS,
)
BOMB = gzip.compress(b"0" * 50_000_000)


async def half_a_response(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await writer.drain()


async def half_a_status_line(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 2")
    await writer.drain()


async def endless_headers(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Header: " + b"x" * 4_000 + b"\r\n")
        await writer.drain()


async def endless_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 4_096 + b"\r\n")
        await writer.drain()


async def one_byte_at_a_time(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1_000:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.005)


# the reply, the scope of the failure, and its reason
FAULTS: dict[str, tuple[Reply, FailureScope, str]] = {
    "deflate bomb": (
        response(zlib.compress(b"0" * 50_000_000), 500, "Content-Encoding: deflate"),
        DESTINATION,
        "Status500",
    ),
    "not gzip": (response(b"{}", 200, "Content-Encoding: gzip"), DESTINATION, TransportFailure.INVALID_RESPONSE),
    "unknown encoding": (response(b"{}", 200, "Content-Encoding: br"), DESTINATION, TransportFailure.INVALID_RESPONSE),
    "endless headers": (endless_headers, DESTINATION, TransportFailure.INVALID_RESPONSE),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", DESTINATION, TransportFailure.INVALID_RESPONSE),
    "half a response": (half_a_response, DESTINATION, TransportFailure.DISCONNECTED),
    "half a status line": (half_a_status_line, DESTINATION, TransportFailure.DISCONNECTED),
    "reset": (reset, DESTINATION, TransportFailure.DISCONNECTED),
    "no response": (hang, DESTINATION, TransportFailure.TIMED_OUT),
    "slow response": (one_byte_at_a_time, DESTINATION, TransportFailure.TIMED_OUT),
    "redirect": (response(b"", 302, "Location: http://169.254.169.254/"), DESTINATION, "Status302"),
    "permanent redirect": (response(b"", 308, "Location: https://other.example/"), DESTINATION, "Status308"),
    "bad request": (response(b"no", 400), BATCH, "Status400"),
    "too large": (response(b"", 413), BATCH, "Status413"),
    "invalid": (response(b"", 422), BATCH, "Status422"),
    "unauthorized": (response(b"", 401), CREDENTIALS, "Status401"),
    "forbidden": (response(b"", 403), DESTINATION, "Status403"),
    "not found": (response(b"", 404), DESTINATION, "Status404"),
    "gone": (response(b"", 410), CLOSED, "Status410"),
    "unavailable": (response(b"", 503, "Retry-After: 60"), DESTINATION, "Status503"),
}
LARGE: dict[str, Reply] = {
    "gzip bomb": response(BOMB, 200, "Content-Encoding: gzip"),
    "large body": response(b"x" * 100_000),
    "endless body": endless_body,
}
"""Successes with a body that is too large to read."""


class EventSinkFaults(ABC):
    """`make` returns a sink that sends to `url`; `event` returns an event that it accepts."""

    @abstractmethod
    def settings(self, url: str) -> Settings: ...

    @abstractmethod
    def make(self, settings: Any, context: ConnectorContext) -> EventSink: ...

    @abstractmethod
    def event(self, number: int) -> OutgoingEvent: ...

    def prepare(self, sink: EventSink) -> tuple[HttpRequest, Sequence[EncodedEvent]]:
        count = min(3, sink.policy.limits.max_events)
        events = [sink.encode(self.event(number)) for number in range(1, count + 1)]
        return sink.request(events, FIRST), events

    @asynccontextmanager
    async def sink(
        self, url: str, addresses: AddressPolicy = ANY_ADDRESS, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[tuple[EventSink, RecordingClient]]:
        settings = self.settings(url)
        redactor = Redactor(settings.secrets())
        client = AiohttpClient(addresses, redactor, tls=tls)
        recording = RecordingClient(client, redactor)
        logger = structlog.get_logger("tests.connectors")
        context = ConnectorContext(http=recording, clock=FixedClock(), logger=logger, redact=redactor.redact)
        try:
            yield self.make(settings, context), recording
        finally:
            await client.close()

    async def send(self, url: str, *, seconds: float = 5.0, **options: Any) -> SendResult:
        async with self.sink(url, **options) as (sink, _):
            request, events = self.prepare(sink)
            result = await sink.send(msgspec.structs.replace(request, timeout_seconds=seconds), events)
            assert len(result.items) == len(events)
            return result

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_a_fault_is_a_failure_of_the_request(self, server: Server, fault: str) -> None:
        server.reply, scope, reason = FAULTS[fault]
        result = await self.send(server.url(), seconds=0.5 if reason == TransportFailure.TIMED_OUT else 5.0)
        assert {item.outcome for item in result.items} == {Outcome.NOT_ATTEMPTED}
        assert result.failure is not None
        assert (result.failure.scope, result.failure.reason) == (scope, reason)
        assert result.failure.may_have_arrived
        assert len(server.requests) == 1, "nothing is repeated, and redirects are not followed"

    @pytest.mark.parametrize("reply", LARGE.values(), ids=LARGE)
    async def test_a_large_response_does_not_send_events_again_and_again(self, server: Server, reply: Reply) -> None:
        """The status counts, or nothing does, if the sink reads the body: then items are retried once."""
        server.reply = reply
        result = await self.send(server.url())
        assert (result.failure, result.status) == (None, 200)
        [outcome] = {(item.outcome, item.reason) for item in result.items}
        assert outcome in ((Outcome.DELIVERED, ""), (Outcome.RETRY, UNEXPECTED_RESPONSE))

    @pytest.mark.parametrize(
        ("wait", "seconds"), [("60", 60.0), ("86400", MAX_WAIT_SECONDS), ("soon", None), ("-1", None), ("", None)]
    )
    async def test_the_wait_of_429_is_kept(self, server: Server, wait: str, seconds: float | None) -> None:
        server.reply = response(b"", 429, f"Retry-After: {wait}")
        result = await self.send(server.url())
        assert result.failure is not None and result.failure.scope is DESTINATION
        assert result.failure.retry_after_seconds == seconds

    async def test_a_response_without_body_delivers(self, server: Server) -> None:
        for status in (200, 202):
            server.reply = response(b"", status)
            assert {item.outcome for item in (await self.send(server.url())).items} == {Outcome.DELIVERED}
        server.reply = response(gzip.compress(b"{}"), 200, "Content-Encoding: gzip", "Content-Type: application/json")
        assert {item.outcome for item in (await self.send(server.url())).items} == {Outcome.DELIVERED}

    async def test_a_private_address_closes_the_destination(self, server: Server) -> None:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254"):
            result = await self.send(server.url(host=host), addresses=AddressPolicy())
            assert result.failure is not None and result.failure.scope is CLOSED
            assert result.failure.reason == TransportFailure.ADDRESS_FORBIDDEN
            assert not result.failure.may_have_arrived
        assert server.connections == 0

    async def test_a_certificate_that_is_not_trusted_fails(self, tmp_path: Path) -> None:
        async with serving(self_signed(tmp_path)) as server:
            url = server.url(host="localhost", scheme="https")
            result = await self.send(url)
            assert result.failure is not None and result.failure.scope is DESTINATION
            assert result.failure.reason == TransportFailure.TLS_FAILED and not result.failure.may_have_arrived
            assert server.requests == []
            trusting = ssl.create_default_context(cafile=tmp_path / "server.pem")
            assert (await self.send(url, tls=trusting)).failure is None
            other_name = await self.send(server.url(scheme="https"), tls=trusting)
            assert other_name.failure is not None and other_name.failure.reason == TransportFailure.TLS_FAILED

    async def test_a_closed_port_is_a_failed_connection(self, server: Server) -> None:
        url = server.url()
        async with serving() as closed:
            url = closed.url()
        result = await self.send(url)
        assert result.failure is not None and result.failure.scope is DESTINATION
        assert result.failure.reason == TransportFailure.CONNECT_FAILED and not result.failure.may_have_arrived

    @pytest.mark.parametrize("status", [200, 400, 401, 500])
    async def test_secrets_are_in_no_preview_record_log_or_result(self, server: Server, status: int) -> None:
        """The destination repeats the whole request, with its headers, as many do in error pages."""

        async def repeat(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(response(server.requests[-1], status, "Connection: close"))
            await writer.drain()

        server.reply = repeat
        secrets = self.settings(server.url()).secrets()
        environment = ConnectorEnvironment(addresses=ANY_ADDRESS, clock=FixedClock())
        with structlog.testing.capture_logs() as logs:
            async with environment.context("tested", 7, self.settings(server.url())) as context:
                sink = self.make(self.settings(server.url()), context)
                request, events = self.prepare(sink)
                result = await sink.send(request, events)
                context.logger.warning("failed", request=str(request.headers), result=repr(result), secrets=secrets)
            async with self.sink(server.url()) as (sink, recording):
                await sink.send(request, events)
        preview = format_request(request, Redactor(secrets))
        for secret in secrets:
            for text in (
                preview,
                repr(recording.exchanges),
                repr(result),
                repr(logs),
                repr(self.settings("http://h/")),
            ):
                assert secret not in text
        assert not secrets or (REDACTED in preview and REDACTED in repr(logs))
        assert len(recording.exchanges) == 1
