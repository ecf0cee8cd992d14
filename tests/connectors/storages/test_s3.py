"""Objects of S3, on a real server."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.catalogue.file_storages import S3Settings
from headwater.connectors.contract import FileMissing, FileStorage, InvalidFileName
from headwater.connectors.resolving import DestinationForbidden
from headwater.connectors.storages import s3
from headwater.connectors.storages.s3 import PART_BYTES, S3
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.file_storage import CONTENT, FileStorageConformance
from tests.connectors.storages.servers import ACCESS_KEY, SECRET_KEY, free_port, s3_server

_numbers = itertools.count()


class Server:
    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        self.endpoint = endpoint

    def make(self, *, addresses: str = "1", bucket: str = "", **settings: str) -> S3:
        if not bucket:
            bucket = f"bucket-{next(_numbers)}"
            (self.folder / bucket).mkdir()
        read = S3Settings.read(
            {
                "accessKeyID": ACCESS_KEY,
                "secretAccessKey": SECRET_KEY,
                "region": "eu-west-1",
                "bucket": bucket,
                "endpoint": self.endpoint,
                **settings,
            }
        )
        return S3(read, make_context(secrets=read.secrets(), addresses=AddressPolicy.parse(addresses)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("s3") / "buckets"
    folder.mkdir()
    with s3_server(folder) as endpoint:
        yield Server(folder, endpoint)


class TestConformance(FileStorageConformance):
    @pytest.fixture(autouse=True)
    def real(self, server: Server) -> None:
        self._server = server

    def make(self) -> FileStorage:
        return self._server.make()


def write(storage: FileStorage, name: str, content: bytes) -> None:
    with storage.create(name, "text/csv") as stream:
        stream.write(content)


def read(storage: FileStorage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.stream.read()


def test_the_absolute_path_has_bucket_and_key(server: Server) -> None:
    storage = server.make(bucket="my-bucket")
    assert storage.absolute_path("/a/b c.csv") == "s3://my-bucket/a/b c.csv"


@pytest.mark.parametrize(
    "name", ["a%20b", "a+b", "a~*b", "a#b?c&d=e", "{a}|b", "a\\b", '"<a>"', "a%zz", "~", "日本.csv"]
)
def test_keys_are_kept_as_they_are(server: Server, name: str) -> None:
    storage = server.make()
    write(storage, name, b"x")
    assert read(storage, name) == b"x"
    [bucket] = [path for path in server.folder.iterdir() if path.name == storage.absolute_path("a").split("/")[2]]
    assert [path.name for path in bucket.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a//b", "./a", "../a", "a/..", "/", "//a", "é" * 600])
def test_keys_that_are_not_valid(server: Server, name: str) -> None:
    with pytest.raises(InvalidFileName):
        server.make(bucket="any").absolute_path(name)


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 5])
def test_large_objects_are_written_in_parts(server: Server, size: int) -> None:
    storage, content = server.make(), os.urandom(size)
    write(storage, "a.bin", content)
    with storage.open("a.bin") as file:
        assert file.size == size
        assert b"".join(iter(lambda: file.stream.read(100_003), b"")) == content


def test_a_file_has_a_version_and_a_time(server: Server) -> None:
    storage, versions = server.make(), set[str]()
    for content in (b"a", b"b"):
        write(storage, "a.csv", content)
        with storage.open("a.csv") as file:
            assert file.updated_at is not None and file.updated_at.utcoffset() is not None
            assert abs(file.updated_at.timestamp() - time.time()) < 120
            versions.add(file.version)
    assert len(versions) == 2 and "" not in versions


def test_a_failed_writer_leaves_no_object_however_much_it_has_written(server: Server) -> None:
    storage = server.make()
    with pytest.raises(ZeroDivisionError), storage.create("a.bin", "text/csv") as stream:
        stream.write(bytes(3 * PART_BYTES))
        raise ZeroDivisionError
    with pytest.raises(FileMissing):
        read(storage, "a.bin")


def test_a_killed_process_leaves_no_object(server: Server) -> None:
    storage = server.make()
    bucket = storage.absolute_path("a").split("/")[2]
    write(storage, "a.bin", b"before")
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.connectors.storages.test_s3 import PART_BYTES, Server\n"
        "storage = Server(Path(sys.argv[1]), sys.argv[2]).make(bucket=sys.argv[3])\n"
        "with storage.create('a.bin', 'text/csv') as one, storage.create('b.bin', 'text/csv') as two:\n"
        "    for stream in (one, two): stream.write(bytes(8 * PART_BYTES))\n"
        "    print('written', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(server.folder), server.endpoint, bucket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert read(storage, "a.bin") == b"before"
    with pytest.raises(FileMissing):
        read(storage, "b.bin")


@pytest.mark.parametrize("setting", ["accessKeyID", "secretAccessKey"])
def test_a_wrong_key_is_named_without_its_value(server: Server, setting: str) -> None:
    wrong = {"accessKeyID": "B" * 20, "secretAccessKey": "t" * 40}[setting]
    storage = server.make(**{setting: wrong})
    for call in (lambda: read(storage, "a.csv"), lambda: write(storage, "a.csv", CONTENT)):
        with pytest.raises(Unavailable, match="S3 refuses the access key") as caught:
            call()
        assert wrong not in caught.value.message


def test_a_missing_bucket_is_named(server: Server) -> None:
    storage = server.make(bucket="no-such-bucket")
    for call in (lambda: read(storage, "a.csv"), lambda: write(storage, "a.csv", CONTENT)):
        with pytest.raises(Unavailable, match='bucket "no-such-bucket" does not exist'):
            call()


def test_forbidden_addresses_are_not_connected_to(server: Server) -> None:
    for storage in (server.make(addresses=""), server.make(addresses="", endpoint="http://localhost:1")):
        for call in (lambda: read(storage, "a.csv"), lambda: write(storage, "a.csv", CONTENT)):  # noqa: B023
            with pytest.raises(DestinationForbidden, match="HEADWATER_ALLOW_PRIVATE_DESTINATIONS"):
                call()


def test_https_goes_through_the_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        received = list[bytes]()

        def accept() -> None:
            connection, _ = listening.accept()
            with connection:
                received.append(connection.recv(3))

        thread = threading.Thread(target=accept)
        thread.start()
        endpoint = f"https://localhost:{listening.getsockname()[1]}"
        with pytest.raises(DestinationForbidden):
            read(server.make(addresses="", endpoint=endpoint), "a.csv")
        with pytest.raises(Unavailable, match="S3 failed"):
            read(server.make(endpoint=endpoint), "a.csv")
        thread.join(30)
    assert received == [b"\x16\x03\x01"], "the beginning of TLS"


def test_a_server_that_is_down_is_unavailable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_RETRIES", 0)
    storage = server.make(endpoint=f"http://127.0.0.1:{free_port()}")
    for call in (lambda: read(storage, "a.csv"), lambda: write(storage, "a.csv", bytes(3 * PART_BYTES))):
        with pytest.raises(Unavailable, match="was not connected to"):
            call()


def test_an_object_over_the_maximum_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_OBJECT_BYTES", 1_000_000)
    storage = server.make()
    with pytest.raises(Unavailable, match="larger than 1000000 bytes"):
        write(storage, "a.bin", bytes(2_000_000))
    with pytest.raises(FileMissing):
        read(storage, "a.bin")


def test_the_environment_changes_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "ENDPOINT_URL", "ENDPOINT_URL_S3"):
        monkeypatch.setenv(f"AWS_{name}", "http://127.0.0.1:1")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", "DEFAULT_REGION"):
        monkeypatch.setenv(f"AWS_{name}", "x" * 20)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    storage = server.make()
    write(storage, "a.csv", b"x")
    assert read(storage, "a.csv") == b"x"
    with pytest.raises(DestinationForbidden):
        read(server.make(addresses=""), "a.csv")


AWS = {"accessKeyID": "A" * 20, "secretAccessKey": "s" * 40, "region": "eu-west-1", "bucket": "bucket"}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"accessKeyID": "A" * 19}, "accessKeyID"),
        ({"secretAccessKey": "s" * 39}, "secretAccessKey"),
        ({"region": "auto"}, "region"),
        ({"endpoint": "minio"}, "endpoint"),
        ({"endpoint": "https://h/path"}, "endpoint"),
        ({"endpoint": "https://h/?a"}, "endpoint"),
        ({"endpoint": "https://u:p@h"}, "endpoint"),
        ({"bucket": "a/b"}, "bucket"),
        ({"bucket": "..."}, "bucket"),
    ],
)
def test_settings_that_are_not_valid(changed: dict[str, str], field: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        S3Settings.read({**AWS, **changed})
    assert (caught.value.code, caught.value.field) == ("InvalidSettings", f"settings.{field}")


def test_other_services_have_other_keys_and_regions() -> None:
    other = {
        "accessKeyID": "minioadmin",
        "secretAccessKey": "minioadmin",
        "region": "auto",
        "endpoint": "https://h:9000/",
    }
    assert S3Settings.read({**AWS, **other}).access_key_id == "minioadmin"


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "https://s3.us-gov-west-1.amazonaws.com"),
    ],
)
def test_the_endpoints_of_aws(region: str, endpoint: str) -> None:
    assert s3._aws_endpoint(region) == endpoint
