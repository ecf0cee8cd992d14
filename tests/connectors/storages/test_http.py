"""Files of an HTTP server: read by `HttpGet`, and sent by `HttpPost`."""

import http.server
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import unquote

import pytest

from headwater.base.errors import BadRequest, Unavailable, Unprocessable
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.catalogue.file_storages import HttpSettings
from headwater.connectors.contract import FileStorage, InvalidFileName, StoredFile
from headwater.connectors.resolving import DestinationForbidden
from headwater.connectors.storages import http as storage_http
from headwater.connectors.storages.http import HttpGet, HttpPost
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.file_storage import CONTENT, FileStorageConformance
from tests.connectors.storages.servers import free_port

MODIFIED = "Mon, 04 May 2026 12:00:00 GMT"


class Site(http.server.ThreadingHTTPServer):
    """Stores what is posted completely, and serves it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.incomplete = threading.Semaphore(0)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self._record()
        content = self.server.files.get(unquote(self.path)) if self.server.body is None else self.server.body
        self._respond(200 if content is not None else 404, content or b"")

    def do_POST(self) -> None:
        self._record()
        if self.server.status:
            self.close_connection = True
            return self._respond(self.server.status, b"")
        content = self._read_chunks()
        if content is None:
            self.close_connection = True
            return self.server.incomplete.release()
        self.server.files[unquote(self.path)] = content
        return self._respond(201, b"")

    def _read_chunks(self) -> bytes | None:
        """Return the body, or None if the client ends before it is complete."""
        content = bytearray()
        try:
            while size := int(self.rfile.readline() or b"end", 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            return bytes(content) if self.rfile.readline() else None
        except (OSError, ValueError):
            return None

    def _record(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((f"{self.command} {self.path}", headers))

    def _respond(self, status: int, content: bytes) -> None:
        headers = {"content-length": str(len(content)), "last-modified": MODIFIED, **self.server.headers}
        self.send_response(self.server.status or status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def make_settings(port: int, **values: Any) -> HttpSettings:
    return HttpSettings.read({"host": "127.0.0.1", "port": port, **values})


def getting(port: int, addresses: str = "1", **values: Any) -> HttpGet:
    settings = make_settings(port, **values)
    return HttpGet(settings, make_context(secrets=settings.secrets(), addresses=AddressPolicy.parse(addresses)))


def posting(port: int, addresses: str = "1", **values: Any) -> HttpPost:
    settings = make_settings(port, **values)
    return HttpPost(settings, make_context(secrets=settings.secrets(), addresses=AddressPolicy.parse(addresses)))


def read(storage: FileStorage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.stream.read()


def write(storage: FileStorage, name: str, content: bytes) -> None:
    with storage.create(name, "text/csv") as stream:
        stream.write(content)


class Both:
    """Reads with `HttpGet` and writes with `HttpPost`, on one server."""

    def __init__(self, port: int) -> None:
        self._get, self._post = getting(port), posting(port)

    def absolute_path(self, name: str) -> str:
        assert self._get.absolute_path(name) == self._post.absolute_path(name)
        return self._get.absolute_path(name)

    def open(self, name: str) -> AbstractContextManager[StoredFile]:
        return self._get.open(name)

    def create(self, name: str, content_type: str) -> AbstractContextManager[BinaryIO]:
        return self._post.create(name, content_type)


class TestConformance(FileStorageConformance):
    @pytest.fixture(autouse=True)
    def real(self, site: Site) -> None:
        self._site = site

    def make(self) -> FileStorage:
        self._site.files.clear()
        return Both(self._site.port)


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"port": 80}, "http://h.example/a.csv"),
        ({"port": 443}, "https://h.example/a.csv"),
        ({"port": 8443}, "http://h.example:8443/a.csv"),
        ({"port": 8443, "useHTTPS": True}, "https://h.example:8443/a.csv"),
        ({"port": 443, "useHTTPS": False}, "http://h.example:443/a.csv"),
        ({"port": 80, "host": "2606:4700::1111"}, "http://[2606:4700::1111]/a.csv"),
    ],
)
def test_the_absolute_path_is_the_url(values: dict[str, Any], path: str) -> None:
    storage = HttpGet(HttpSettings.read({"host": "h.example", **values}), make_context())
    assert storage.absolute_path("a.csv") == storage.absolute_path("/a.csv") == path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a b.csv", "/a%20b.csv"),
        ("é.csv", "/%C3%A9.csv"),
        ("a%20b.csv", "/a%20b.csv"),
        ("100%.csv", "/100%25.csv"),
        ("a#b.csv", "/a%23b.csv"),
        ("a+b&c=d.csv", "/a+b&c=d.csv"),
        ("f.csv?day=1&x=a b", "/f.csv?day=1&x=a%20b"),
        ("f.csv?next=../a", "/f.csv?next=../a"),
    ],
)
def test_the_name_is_the_path_of_the_url(site: Site, name: str, path: str) -> None:
    site.body = b"x"
    assert read(getting(site.port), name) == b"x"
    assert site.requests[0][0] == f"GET {path}"


@pytest.mark.parametrize("name", ["%2e%2e/a", "a/%2E%2e/b", "a%00b", "%0a", "..%2Fa", "?a", "/?a", "a?\n", "a?\ud800"])
def test_encoded_names_that_are_not_valid(site: Site, name: str) -> None:
    for storage in (getting(site.port), posting(site.port)):
        with pytest.raises(InvalidFileName):
            storage.absolute_path(name)
    assert site.requests == []


def test_the_headers_are_sent_and_the_type_is_that_of_the_file(site: Site) -> None:
    headers = [
        {"key": "Authorization", "value": "Bearer s3cret"},
        {"key": "X", "value": "1"},
        {"key": "x", "value": "2"},
    ]
    write(posting(site.port, headers=[*headers, {"key": "Host", "value": "other"}]), "a.csv", b"x")
    assert read(getting(site.port, headers=headers), "a.csv") == b"x"
    (_, posted), (_, got) = site.requests
    for sent in (posted, got):
        assert (sent["authorization"], sent["x"], sent["host"]) == ("Bearer s3cret", "1, 2", f"127.0.0.1:{site.port}")
    assert (posted["content-type"], posted["transfer-encoding"]) == ("text/csv", "chunked")


def test_the_time_and_the_version_come_from_the_headers(site: Site) -> None:
    site.body = b"abc"
    with getting(site.port).open("a.csv") as file:
        assert file.updated_at == datetime(2026, 5, 4, 12, tzinfo=UTC)
        assert (file.size, bool(file.version)) == (3, True)
    site.headers = {"etag": '"v1"', "last-modified": "yesterday"}
    with getting(site.port).open("a.csv") as file:
        assert (file.updated_at, file.version) == (None, '"v1"')
    site.headers = {"last-modified": ""}
    with getting(site.port).open("a.csv") as file:
        assert (file.updated_at, file.version) == (None, "")


@pytest.mark.parametrize("status", [201, 204, 301, 302, 401, 403, 500, 503])
def test_other_statuses_than_200_are_errors_of_reading(site: Site, status: int) -> None:
    site.status, site.headers = status, {"location": "http://169.254.169.254/"}
    with pytest.raises(Unavailable, match=f"status {status}"):
        read(getting(site.port), "a.csv")
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [301, 307, 308, 400, 401, 413, 500, 503])
@pytest.mark.parametrize("size", [10, 5_000_000])
def test_other_statuses_than_2xx_are_errors_of_writing(site: Site, status: int, size: int) -> None:
    site.status, site.headers = status, {"location": "http://169.254.169.254/"}
    with pytest.raises(Unavailable):
        write(posting(site.port), "a.csv", bytes(size))
    assert len(site.requests) == 1 and site.files == {}


def test_a_success_before_the_file_is_complete_is_an_error(site: Site) -> None:
    site.status = 200
    with pytest.raises(Unavailable), posting(site.port).create("a.csv", "text/csv") as stream:
        for _ in range(200):
            stream.write(bytes(1_000_000))


def test_a_body_that_ends_early_is_an_error(site: Site) -> None:
    site.body, site.headers = b"abc", {"content-length": "1000000", "connection": "close"}
    with getting(site.port).open("a.csv") as file, pytest.raises(Unavailable, match="before the response was complete"):
        file.stream.read()


def test_a_failed_writer_ends_the_request_before_it_is_complete(site: Site) -> None:
    with pytest.raises(ZeroDivisionError), posting(site.port).create("a.csv", "text/csv") as stream:
        stream.write(CONTENT * 5)
        stream.flush()
        raise ZeroDivisionError
    assert site.incomplete.acquire(timeout=30)
    assert site.files == {}


def test_a_killed_process_leaves_no_file(site: Site) -> None:
    script = (
        "import sys, time\n"
        "from tests.connectors.storages.test_http import posting\n"
        "with posting(int(sys.argv[1])).create('a.csv', 'text/csv') as stream:\n"
        "    stream.write(bytes(5_000_000)); stream.flush(); print('written', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(site.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert site.incomplete.acquire(timeout=30)
    assert site.files == {}


def test_a_file_over_the_maximum_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_http, "MAX_FILE_BYTES", 100_000)
    site.body = bytes(200_000)
    with pytest.raises(Unavailable, match="larger than 100000 bytes"):
        read(getting(site.port), "a.csv")
    site.headers = {"content-length": "", "connection": "close"}
    with pytest.raises(Unavailable, match="larger than 100000 bytes"):
        read(getting(site.port), "a.csv")


def test_a_content_encoding_is_refused(site: Site) -> None:
    site.body, site.headers = b"x", {"content-encoding": "gzip"}
    with pytest.raises(Unavailable, match="content encoding"):
        read(getting(site.port), "a.csv")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1"])
def test_forbidden_addresses_are_not_connected_to(site: Site, host: str) -> None:
    for storage in (getting(site.port, "", host=host), posting(site.port, "", host=host)):
        with pytest.raises(DestinationForbidden, match="HEADWATER_ALLOW_PRIVATE_DESTINATIONS"):
            if isinstance(storage, HttpGet):
                read(storage, "a.csv")
            else:
                write(storage, "a.csv", CONTENT)
    assert site.requests == []


def test_a_server_that_is_down_is_unavailable() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match="no connection was made"):
        read(getting(port), "a.csv")
    with pytest.raises(Unavailable, match="no connection was made"):
        write(posting(port), "a.csv", bytes(5_000_000))


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_http, "READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(Unavailable, match="in time"):
            read(getting(port), "a.csv")
        with pytest.raises(Unavailable, match="in time"):
            write(posting(port), "a.csv", b"x")
        assert time.monotonic() - began < 20


def test_each_of_them_has_one_direction(site: Site) -> None:
    with pytest.raises(BadRequest, match="cannot be written to"):
        write(getting(site.port), "a.csv", b"x")
    with pytest.raises(BadRequest, match="cannot be read from"):
        read(posting(site.port), "a.csv")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"host": "a/b"}, "host"),
        ({"host": "u@h"}, "host"),
        ({"host": "h:80"}, "host"),
        ({"host": "a b"}, "host"),
        ({"headers": [{"key": "a b", "value": "x"}]}, "headers[0].key"),
        ({"headers": [{"key": "a", "value": "x\r\ny"}]}, "headers[0].value"),
        ({"useHTTPS": 1}, "useHTTPS"),
    ],
)
def test_settings_that_are_not_valid(values: dict[str, Any], field: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        make_settings(80, **values)
    assert (caught.value.code, caught.value.field) == ("InvalidSettings", f"settings.{field}")
