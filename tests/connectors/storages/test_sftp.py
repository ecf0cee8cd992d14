"""Files of SFTP servers: OpenSSH and asyncssh."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.catalogue.file_storages import SftpDestinationSettings
from headwater.connectors.contract import FileMissing, FileStorage, InvalidFileName
from headwater.connectors.resolving import DestinationForbidden
from headwater.connectors.storages import sftp
from headwater.connectors.storages.sftp import CHUNK_BYTES, STALE_SECONDS, Sftp, check_settings
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.file_storage import CONTENT, FileStorageConformance
from tests.connectors.storages.servers import (
    PASSWORD,
    USER,
    asyncssh_server,
    free_port,
    make_host_key,
    openssh_server,
)

SERVERS: dict[str, Callable[[Path, Path], AbstractContextManager[int]]] = {
    "openssh": openssh_server,
    "asyncssh": asyncssh_server,
}
_numbers = itertools.count()


class Server:
    def __init__(self, folder: Path, port: int, key: str) -> None:
        self.folder = folder
        self.port = port
        self.key = key

    def settings(self, **values: Any) -> SftpDestinationSettings:
        given = {"host": "127.0.0.1", "port": self.port, "username": USER, "password": PASSWORD}
        return SftpDestinationSettings.read({**given, "hostPublicKey": self.key, **values})

    def make(self, *, addresses: str = "1", **values: Any) -> Sftp:
        settings = self.settings(**values)
        return Sftp(settings, make_context(secrets=settings.secrets(), addresses=AddressPolicy.parse(addresses)))


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    own = tmp_path_factory.mktemp("sftp")
    folder = own / "root"
    folder.mkdir()
    path, key = make_host_key(own)
    with SERVERS[request.param](folder, path) as port:
        yield Server(folder, port, key)


class InFolder:
    """A storage whose names are below a folder of its own, so that each test has an empty one."""

    def __init__(self, storage: Sftp) -> None:
        self._storage = storage
        self._folder = f"folder-{next(_numbers)}"

    def absolute_path(self, name: str) -> str:
        return self._storage.absolute_path(self._name(name))

    def open(self, name: str) -> Any:
        return self._storage.open(self._name(name))

    def create(self, name: str, content_type: str) -> Any:
        return self._storage.create(self._name(name), content_type)

    def _name(self, name: str) -> str:
        return name and f"{self._folder}/{name}"


class TestConformance(FileStorageConformance):
    @pytest.fixture(autouse=True)
    def real(self, server: Server) -> None:
        self._server = server

    def make(self) -> FileStorage:
        return InFolder(self._server.make())


def write(storage: FileStorage, name: str, content: bytes) -> None:
    with storage.create(name, "text/csv") as stream:
        stream.write(content)


def read(storage: FileStorage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.stream.read()


def test_the_absolute_path_has_host_and_port() -> None:
    server = Server(Path(), 22, "")
    for name in ("dir/f.csv", "/dir/f.csv"):
        assert server.make(host="files.example").absolute_path(name) == "sftp://files.example:22/dir/f.csv"
        assert server.make(host="2606:4700::1111").absolute_path(name) == "sftp://[2606:4700::1111]:22/dir/f.csv"
    for name in ("~", "~/a", "~user/a", "a//b", "../a"):
        with pytest.raises(InvalidFileName):
            server.make().absolute_path(name)


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, 5 * CHUNK_BYTES + 3])
def test_large_files_are_read_as_they_were_written(server: Server, size: int) -> None:
    storage, content = InFolder(server.make()), os.urandom(size)
    write(storage, "a.bin", content)
    with storage.open("a.bin") as file:
        assert file.size == size
        assert b"".join(iter(lambda: file.stream.read(100_003), b"")) == content
        file.stream.seek(-10, os.SEEK_END)
        assert file.stream.read() == content[-10:]
        file.stream.seek(5)
        assert file.stream.read(10) == content[5:15]


def test_a_file_has_a_version_and_a_time(server: Server) -> None:
    storage, versions = InFolder(server.make()), set[str]()
    for content in (b"a", b"bb"):
        write(storage, "a.csv", content)
        with storage.open("a.csv") as file:
            assert file.updated_at is not None and file.updated_at.utcoffset() is not None
            assert abs(file.updated_at.timestamp() - time.time()) < 120
            versions.add(file.version)
    assert len(versions) == 2


def names_below(server: Server, folder: str) -> list[str]:
    return sorted(path.name for path in (server.folder / folder).rglob("*"))


def test_nothing_but_the_file_is_left(server: Server) -> None:
    storage, folder = server.make(), f"left-{next(_numbers)}"
    write(storage, f"{folder}/a.csv", CONTENT)
    with pytest.raises(ZeroDivisionError), storage.create(f"{folder}/b.csv", "text/csv") as stream:
        stream.write(CONTENT * 20)
        raise ZeroDivisionError
    assert names_below(server, folder) == ["a.csv"]


def test_files_are_written_to_the_temporary_folder_first(server: Server) -> None:
    folder = f"temporary-{next(_numbers)}"
    storage = server.make(tempPath=f"/{folder}/incoming/")
    with storage.create(f"{folder}/out/a.csv", "text/csv") as stream:
        stream.write(bytes(3 * CHUNK_BYTES))
        [temporary] = (server.folder / folder / "incoming").iterdir()
        assert temporary.name.startswith(".a.csv.") and temporary.name.endswith(".partial")
    assert names_below(server, folder) == ["a.csv", "incoming", "out"]


def test_the_files_of_dead_processes_are_deleted_later(server: Server) -> None:
    storage, folder = server.make(), f"stale-{next(_numbers)}"
    write(storage, f"{folder}/a.csv", CONTENT)
    ages = {
        ".a-2026-01-01.csv.0123456789abcdef.partial": STALE_SECONDS + 60,
        f".{'a' * 100}.0123456789abcdef.partial": STALE_SECONDS + 60,
        ".busy.csv.0123456789abcdef.partial": STALE_SECONDS - 60,
        ".mine.partial": STALE_SECONDS + 60,
        "a.0123456789abcdef.partial": STALE_SECONDS + 60,
    }
    for name, age in ages.items():
        path = server.folder / folder / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age, time.time() - age))
    write(storage, f"{folder}/a.csv", CONTENT)
    assert names_below(server, folder) == sorted(["a.csv", *list(ages)[2:]])


def test_folders_are_not_files(server: Server) -> None:
    storage, folder = server.make(), f"kinds-{next(_numbers)}"
    write(storage, f"{folder}/file", b"x")
    for call in (lambda: read(storage, folder), lambda: write(storage, folder, b"x")):
        with pytest.raises(InvalidFileName, match="is a folder"):
            call()
    with pytest.raises((InvalidFileName, Unavailable)):
        write(storage, f"{folder}/file/a.csv", b"x")


def test_a_killed_process_leaves_the_file_as_it_was(server: Server) -> None:
    storage, folder = server.make(), f"killed-{next(_numbers)}"
    write(storage, f"{folder}/a.csv", b"before")
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.connectors.storages.test_sftp import Server\n"
        "storage = Server(Path(), int(sys.argv[1]), sys.argv[2]).make()\n"
        "with storage.create(sys.argv[3], 'text/csv') as stream:\n"
        "    stream.write(bytes(5_000_000)); stream.flush(); print('written', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(server.port), server.key, f"{folder}/a.csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert read(storage, f"{folder}/a.csv") == b"before"
    assert [name for name in names_below(server, folder) if not name.startswith(".")] == ["a.csv"]


def test_a_wrong_password_is_named_without_its_value(server: Server) -> None:
    for wrong in ({"password": "wrong-password"}, {"username": "nobody-of-that-name"}):
        storage = server.make(**wrong)
        for call in (lambda: read(storage, "a.csv"), lambda: write(storage, "a.csv", b"x")):  # noqa: B023
            with pytest.raises(Unavailable, match="rejects the user name or the password") as caught:
                call()
            assert "wrong-password" not in caught.value.message
        with pytest.raises(Unprocessable) as rejected:
            check_settings(server.settings(**wrong), make_context())
        assert (rejected.value.code, rejected.value.field) == ("InvalidSettings", "settings.password")


def other_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def test_a_server_with_another_key_gets_no_password(server: Server) -> None:
    storage = server.make(hostPublicKey=other_key())
    for call in (lambda: read(storage, "a.csv"), lambda: write(storage, "a.csv", b"x")):
        with pytest.raises(Unavailable, match="not the key of the server"):
            call()
    with pytest.raises(Unprocessable) as rejected:
        check_settings(server.settings(hostPublicKey=other_key()), make_context())
    assert (rejected.value.code, rejected.value.field) == ("InvalidSettings", "settings.hostPublicKey")


def test_the_first_key_is_stored_and_used(server: Server) -> None:
    given = server.settings(hostPublicKey="")
    with pytest.raises(Unavailable, match="no key of the server"):
        read(Sftp(given, make_context()), "a.csv")
    checked = check_settings(given, make_context())
    assert checked.host_public_key.split()[:2] == server.key.split()[:2]
    with pytest.raises(FileMissing):
        read(Sftp(checked, make_context()), "missing.csv")
    assert check_settings(checked, make_context()) == checked


@pytest.mark.parametrize("form", ["{key}", "{key} a comment", "host.example {key}", "[host]:2222,1.2.3.4 {key}\n\n"])
def test_the_forms_of_a_key(server: Server, form: str) -> None:
    key = " ".join(server.key.split()[:2])
    with pytest.raises(FileMissing):
        read(server.make(hostPublicKey=form.format(key=key)), "missing.csv")


def test_one_of_several_keys_is_enough(server: Server) -> None:
    with pytest.raises(FileMissing):
        read(server.make(hostPublicKey=f"{other_key()}\n{server.key}"), "missing.csv")


@pytest.mark.parametrize("key", ["x", "ssh-ed25519", "ssh-ed25519 AAAA", "@cert-authority * ssh-rsa AAAA", "a b c d"])
def test_keys_that_are_not_valid(key: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_settings(Server(Path(), 22, key).settings(), make_context())
    assert (caught.value.code, caught.value.field) == ("InvalidSettings", "settings.hostPublicKey")


def test_forbidden_addresses_are_not_connected_to(server: Server) -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        for call in (
            lambda host=host: read(server.make(addresses="", host=host), "a.csv"),
            lambda host=host: check_settings(server.settings(host=host), make_context(addresses=AddressPolicy())),
        ):
            with pytest.raises(DestinationForbidden, match="HEADWATER_ALLOW_PRIVATE_DESTINATIONS"):
                call()


def test_port_22_is_allowed_and_other_system_ports_are_not() -> None:
    for port, error in ((25, "port 25 is not allowed"), (443, "port 443 is not allowed")):
        storage = Server(Path(), port, other_key()).make(addresses="", host="8.8.8.8")
        with pytest.raises(DestinationForbidden, match=error):
            read(storage, "a.csv")


@pytest.mark.parametrize("username", ["a\a", "\u0221", "\U0001f600"])
def test_user_names_that_ssh_does_not_allow(username: str) -> None:
    settings = Server(Path(), free_port(), other_key()).settings(username=username)
    with pytest.raises(Unprocessable, match="SSH does not allow") as raised:
        check_settings(settings, make_context())
    assert (raised.value.code, raised.value.field) == ("InvalidSettings", "settings.username")


def test_a_server_that_is_down_is_unavailable() -> None:
    server = Server(Path(), free_port(), other_key())
    with pytest.raises(Unavailable):
        read(server.make(), "a.csv")
    with pytest.raises(Unavailable):
        check_settings(server.settings(), make_context())


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp, "LOGIN_SECONDS", 0.2)
    monkeypatch.setattr(sftp, "REQUEST_SECONDS", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = Server(Path(), silent.getsockname()[1], other_key())
        began = time.monotonic()
        with pytest.raises(Unavailable):
            read(server.make(), "a.csv")
        assert time.monotonic() - began < 30
