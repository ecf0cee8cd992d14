"""Spans, as a small OTLP/HTTP receiver gets them."""

import asyncio
import builtins
import gzip
import inspect
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.traceparent import MAX_TRACEPARENT_LENGTH, begin_trace, current_traceparent
from headwater.server.errors import StartupError
from headwater.server.settings import Settings, read
from headwater.server.tracing import CombinedMetrics, traced
from tests.e2e.source import make_source
from tests.system import free_port, start, wait_until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Receiver:
    """Takes spans over OTLP/HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        """The spans, each with the name of its process."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                receiver.add(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def add(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            named = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
            assert named["service.name"] == "headwater"
            for scope in resource.scope_spans:
                self.spans += [(named["service.instance.id"], span) for span in scope.spans]

    def named(self, name: str) -> list[tuple[str, Span]]:
        return [(process, span) for process, span in self.spans if span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def settings(endpoint: str, share: str = "1") -> Settings:
    return read({"HEADWATER_OTLP_ENDPOINT": endpoint, "HEADWATER_OTLP_SHARE": share})


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_measurements_become_spans(receiver: Receiver) -> None:
    async with traced(NO_METRICS, settings(f"{receiver.url}/"), "worker") as metrics:
        metrics.rpc_handled("/headwater.v1.EventService/SendEvents", "OK", 0.25)
        metrics.rpc_handled("/headwater.v1.EventService/ListEvents", "INTERNAL", 0.25)
        metrics.batch_processed(1.5, stored=1, duplicates=2, rejected=3, suppressed=5, identities=4, steps={})
        metrics.lane_run("Python", "Limit", 0.1, 5)
        metrics.delivery_requested(7, "429", 0.5, 50)
        metrics.events_accepted("track", 1)
    found = {span.name: span for _, span in receiver.spans}
    assert len(receiver.spans) == len(found) == 5
    assert {process for process, _ in receiver.spans} == {"worker"}
    sent = found["headwater.v1.EventService/SendEvents"]
    assert (sent.end_time_unix_nano - sent.start_time_unix_nano) == 250_000_000
    assert sent.kind == Span.SPAN_KIND_SERVER
    assert attributes(sent)["rpc.response.status_code"] == "OK"
    assert attributes(found["process batch"])["headwater.events.duplicate"] == 2
    assert attributes(found["deliver"]) == {
        "headwater.destination": 7,
        "headwater.events": 50,
        "headwater.response": "429",
    }
    failed = {name for name, span in found.items() if span.status.code == Status.STATUS_CODE_ERROR}
    assert failed == {"headwater.v1.EventService/ListEvents", "run transformation", "deliver"}


async def test_a_call_continues_the_trace_of_its_caller(receiver: Receiver) -> None:
    async with traced(NO_METRICS, settings(receiver.url, "0.000001"), "backend") as metrics:

        async def call(traceparent: str) -> None:
            begin_trace(traceparent)
            metrics.rpc_handled("/a.B/C", "OK", 0.1)

        for header in (TRACEPARENT, "", "nonsense", TRACEPARENT[:-1] + "0", TRACEPARENT + "x" * 300):
            await asyncio.create_task(call(header))
    ((_, span),) = receiver.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


def test_a_header_of_any_length_is_harmless() -> None:
    begin_trace("x" * (MAX_TRACEPARENT_LENGTH + 1))
    assert current_traceparent() == ""


async def test_without_a_collector_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid(monkeypatch)
    async with traced(NO_METRICS, read({}), "worker") as metrics:
        assert metrics is NO_METRICS


async def test_without_the_extra_the_start_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid(monkeypatch)
    with pytest.raises(StartupError, match=r"install headwater\[otlp\]"):
        async with traced(NO_METRICS, settings("http://127.0.0.1:4318"), "worker"):
            pass


def _forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)


async def test_a_collector_that_is_down_delays_nothing() -> None:
    async with asyncio.timeout(30):
        async with traced(NO_METRICS, settings(f"http://127.0.0.1:{free_port()}"), "worker") as metrics:
            for _ in range(5_000):
                metrics.rpc_handled("/a.B/C", "OK", 0.1)


def test_each_measurement_reaches_every_part() -> None:
    names = [name for name, _ in inspect.getmembers(Metrics, inspect.isfunction) if not name.startswith("_")]
    called: list[tuple[int, str]] = []

    class Part(Metrics):
        def __init__(self, number: int) -> None:
            for name in names:
                setattr(self, name, lambda *_, name=name, **__: called.append((number, name)))

    combined = CombinedMetrics(Part(1), Part(2))
    for name in names:
        getattr(combined, name)()
    assert called == [(number, name) for name in names for number in (1, 2)]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTLP_ENDPOINT", "collector:4318"),
        ("OTLP_ENDPOINT", "ftp://collector"),
        ("OTLP_ENDPOINT", "http://collector:0"),
        ("OTLP_ENDPOINT", "http://collector/?a=b"),
        ("OTLP_ENDPOINT", "http://col lector"),
        ("OTLP_SHARE", "0"),
        ("OTLP_SHARE", "1.1"),
        ("OTLP_SHARE", "nan"),
        ("OTLP_SHARE", "some"),
    ],
)
def test_bad_settings(variable: str, text: str) -> None:
    with pytest.raises(StartupError):
        read({f"HEADWATER_{variable}": text})


@pytest.mark.process
def test_a_whole_system_sends_spans(receiver: Receiver, tmp_path: Path) -> None:
    variables = {"HEADWATER_OTLP_ENDPOINT": receiver.url, "HEADWATER_OTLP_SHARE": "0.000001"}
    system = start(tmp_path / "data", None, **variables)
    try:
        source = make_source(system)
        assert source.send("track", {"userId": "u", "event": "Seen"}, traceparent=TRACEPARENT).status_code == 200
        wait_until(lambda: bool(receiver.named("headwater.rest.v1.TrackService/Track")), 30)
        ((process, span),) = receiver.named("headwater.rest.v1.TrackService/Track")
        assert (process, span.trace_id.hex()) == ("backend", TRACE)
    finally:
        assert system.stop() == 0, system.errors
