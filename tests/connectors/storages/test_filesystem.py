"""Files of the server: confined to their root, and complete or absent."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable
from headwater.connectors.catalogue.file_storages import FileSystemSettings
from headwater.connectors.contract import FileMissing, FileStorage, InvalidFileName
from headwater.connectors.storages import filesystem
from headwater.connectors.storages.filesystem import FileSystem
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.file_storage import CONTENT, FileStorageConformance


def storage_in(root: Path | None, *, slow: bool = False) -> FileSystem:
    return FileSystem(FileSystemSettings(simulate_high_io_latency=slow), make_context(filesystem_root=root))


class TestConformance(FileStorageConformance):
    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path) -> None:
        self._root = tmp_path

    def make(self) -> FileStorage:
        return storage_in(self._root)


class TestConformanceWithoutNamelessFiles(TestConformance):
    """The suite passes on a file system that has no files without a name, too."""

    @pytest.fixture(autouse=True)
    def named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.open

        def refuse(path: object, flags: int, *arguments: object, **named: object) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(95, "Operation not supported")
            return real(path, flags, *arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", refuse)


def write(storage: FileStorage, name: str, content: bytes) -> None:
    with storage.create(name, "text/csv") as stream:
        stream.write(content)


def read(storage: FileStorage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.stream.read()


def test_without_the_setting_the_error_names_it() -> None:
    storage = storage_in(None)
    for call in (
        lambda: storage.absolute_path("a.csv"),
        lambda: read(storage, "a.csv"),
        lambda: write(storage, "a.csv", b""),
    ):
        with pytest.raises(Unavailable, match="HEADWATER_FILESYSTEM_ROOT"):
            call()


@pytest.mark.parametrize(("name", "path"), [("f.csv", "/srv/files/f.csv"), ("/a/f.csv", "/srv/files/a/f.csv")])
def test_the_absolute_path_is_below_the_root(name: str, path: str) -> None:
    assert storage_in(Path("/srv/files")).absolute_path(name) == path


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../a", "a/..", "a/../../b", "/../a", "./a", "a/./b", ".", "/", "//a", "a//b", "a/", "", "\0", "a\nb"),
        *("\x85", "\ud800", "x" * 256, "é" * 128, "x/" * 600 + "x", "x" * 1_025),
    ],
)
def test_names_that_are_not_valid(tmp_path: Path, name: str) -> None:
    storage = storage_in(tmp_path)
    for call in (storage.absolute_path, lambda name: read(storage, name), lambda name: write(storage, name, b"")):
        with pytest.raises(InvalidFileName):
            call(name)
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.sampled_from("a./\\~%*é \0\n"), max_size=12))
def test_no_name_leads_out_of_the_root(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    outer = tmp_path_factory.mktemp("outer")
    root = outer / "root"
    root.mkdir()
    try:
        write(storage_in(root), name, b"x")
    except InvalidFileName:
        pass
    else:
        assert read(storage_in(root), name) == b"x"
    assert [path.name for path in outer.iterdir()] == ["root"]


def outside(tmp_path: Path) -> tuple[Path, Path]:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (other / "secret.csv").write_bytes(b"secret")
    return root, other


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    root, other = outside(tmp_path)
    (root / "folder").symlink_to(other)
    (root / "file.csv").symlink_to(other / "secret.csv")
    (root / "inside.csv").symlink_to("real.csv")
    (root / "real.csv").write_bytes(b"real")
    storage = storage_in(root)
    for name in ("folder/secret.csv", "file.csv", "inside.csv"):
        with pytest.raises(InvalidFileName):
            read(storage, name)
        with pytest.raises(InvalidFileName):
            write(storage, name, b"changed")
    assert (other / "secret.csv").read_bytes() == b"secret"


def test_the_root_can_be_a_symbolic_link(tmp_path: Path) -> None:
    root, _ = outside(tmp_path)
    (tmp_path / "link").symlink_to(root)
    write(storage_in(tmp_path / "link"), "a.csv", b"x")
    assert (root / "a.csv").read_bytes() == b"x"


def test_a_folder_that_is_exchanged_meanwhile_does_not_lead_out(tmp_path: Path) -> None:
    root, other = outside(tmp_path)
    (root / "folder").mkdir()
    (root / "folder" / "secret.csv").write_bytes(b"inside")
    (root / "link").symlink_to(other)
    is_done = threading.Event()

    def exchange() -> None:
        while not is_done.is_set():
            for source, target in (("folder", "kept"), ("link", "folder"), ("folder", "link"), ("kept", "folder")):
                os.rename(root / source, root / target)

    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set[bytes]()
    try:
        for _ in range(2_000):
            try:
                seen.add(read(storage_in(root), "folder/secret.csv"))
            except (InvalidFileName, FileMissing):
                seen.add(b"")
    finally:
        is_done.set()
        thread.join()
    assert b"secret" not in seen


@pytest.mark.parametrize("slow", [False, True])
def test_other_kinds_of_files_are_refused(tmp_path: Path, slow: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for name in ("pipe", "folder", "file/a.csv"):
        with pytest.raises(InvalidFileName):
            read(storage_in(tmp_path, slow=slow), name)
        with pytest.raises(InvalidFileName):
            write(storage_in(tmp_path, slow=slow), name, b"x")


def test_devices_are_refused() -> None:
    for name in ("null", "zero"):
        with pytest.raises(InvalidFileName):
            read(storage_in(Path("/dev")), name)
        with pytest.raises(InvalidFileName):
            write(storage_in(Path("/dev")), name, b"x")


def test_the_folder_of_a_workspace_is_made_when_it_is_written_to(tmp_path: Path) -> None:
    storage = storage_in(tmp_path / "17")
    with pytest.raises(FileMissing):
        read(storage, "a.csv")
    assert list(tmp_path.iterdir()) == []
    write(storage, "deep/a.csv", b"x")
    assert (tmp_path / "17" / "deep" / "a.csv").read_bytes() == b"x"
    with pytest.raises(Unavailable, match="does not exist"):
        write(storage_in(tmp_path / "missing" / "17"), "a.csv", b"x")


def test_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    storage = storage_in(tmp_path)
    write(storage, "a.csv", CONTENT)
    with pytest.raises(ZeroDivisionError), storage.create("b.csv", "text/csv") as stream:
        stream.write(CONTENT * 10)
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_file_is_read_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"before")
    with storage_in(tmp_path).open("a.csv") as file:
        with path.open("ab") as more:
            more.write(b" and after")
        assert (file.size, file.stream.read()) == (6, b"before")
        file.stream.seek(-2, os.SEEK_END)
        assert file.stream.read() == b"re"


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(1_000_000))
    with storage_in(tmp_path).open("a.csv") as file:
        file.stream.read(10)
        os.truncate(path, 10)
        with pytest.raises(Unavailable, match="shorter"):
            file.stream.read()


def test_the_version_differs_between_contents(tmp_path: Path) -> None:
    storage, versions = storage_in(tmp_path), set[str]()
    for content in (b"a", b"b", b"b", b"bb"):
        write(storage, "a.csv", content)
        with storage.open("a.csv") as file:
            versions.add(file.version)
    assert len(versions) == 4


def test_a_full_disk_is_an_error_for_people_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.connectors.storages.test_filesystem import storage_in\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from headwater.base.errors import Unavailable\n"
        "try:\n"
        "    with storage_in(Path(sys.argv[1])).create('a.csv', 'text/csv') as stream:\n"
        "        for _ in range(1_000): stream.write(bytes(10_000))\n"
        "except Unavailable as error: print(error.message)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert "cannot be written" in ran.stdout, ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"before")
    script = (
        "import sys, time; from pathlib import Path\n"
        "from tests.connectors.storages.test_filesystem import storage_in\n"
        "with storage_in(Path(sys.argv[1])).create('a.csv', 'text/csv') as stream:\n"
        "    stream.write(bytes(1_000_000)); stream.flush(); print('written', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.csv", b"before")]


def test_latency_can_be_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    write(storage_in(tmp_path), "a.csv", b"x")
    assert slept == []
    write(storage_in(tmp_path, slow=True), "a.csv", b"x")
    assert read(storage_in(tmp_path, slow=True), "a.csv") == b"x"
    assert len(slept) >= 4 and set(slept) == {filesystem.LATENCY_SECONDS}
