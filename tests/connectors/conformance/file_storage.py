"""The conformance suite of `FileStorage`."""

from abc import ABC, abstractmethod

import pytest

from headwater.connectors.contract import FileMissing, FileStorage, InvalidFileName

CONTENT = bytes(range(256)) * 1_000


class FileStorageConformance(ABC):
    """`make` returns an empty storage. For a storage that only reads or only writes the subclass supplies `put` or
    `get`."""

    INVALID = ("", "../outside", "a/../../outside", "a\0b", "x" * 2_000)
    NAMES = ("a.csv", "folder/sub/b.csv", "é and ü.csv")

    @abstractmethod
    def make(self) -> FileStorage: ...

    def put(self, storage: FileStorage, name: str, content: bytes) -> None:
        with storage.create(name, "text/csv") as stream:
            for start in range(0, len(content), 10_000):
                stream.write(content[start : start + 10_000])

    def get(self, storage: FileStorage, name: str) -> bytes:
        with storage.open(name) as file:
            return file.stream.read()

    def test_a_file_is_read_as_it_was_written(self) -> None:
        storage = self.make()
        for name in self.NAMES:
            for content in (CONTENT, b"", b"short"):
                self.put(storage, name, content)
                assert self.get(storage, name) == content

    def test_an_open_file_has_its_size_and_time(self) -> None:
        storage = self.make()
        self.put(storage, "a.csv", CONTENT)
        with storage.open("a.csv") as file:
            assert file.size in (None, len(CONTENT))
            assert file.updated_at is None or file.updated_at.utcoffset() is not None

    def test_a_missing_file_is_an_error(self) -> None:
        storage = self.make()
        with pytest.raises(FileMissing), storage.open("missing.csv"):
            pass

    def test_a_failure_leaves_the_storage_as_it_was(self) -> None:
        storage = self.make()
        self.put(storage, "a.csv", b"before")
        for name in ("a.csv", "new.csv"):
            with pytest.raises(ZeroDivisionError), storage.create(name, "text/csv") as stream:
                stream.write(CONTENT)
                raise ZeroDivisionError
        assert self.get(storage, "a.csv") == b"before"
        with pytest.raises(FileMissing), storage.open("new.csv"):
            pass

    def test_a_file_appears_when_it_is_complete(self) -> None:
        storage = self.make()
        with storage.create("a.csv", "text/csv") as stream:
            stream.write(b"half")
            with pytest.raises(FileMissing), storage.open("a.csv"):
                pass
        assert self.get(storage, "a.csv") == b"half"

    def test_an_open_file_is_read_as_it_was_when_opened(self) -> None:
        storage = self.make()
        self.put(storage, "a.csv", b"before")
        with storage.open("a.csv") as file:
            self.put(storage, "a.csv", b"after!")
            assert file.stream.read() == b"before"

    def test_invalid_names_are_rejected(self) -> None:
        storage = self.make()
        for name in self.INVALID:
            with pytest.raises(InvalidFileName):
                storage.absolute_path(name)
            with pytest.raises(InvalidFileName), storage.open(name):
                pass
            with pytest.raises(InvalidFileName), storage.create(name, "text/csv"):
                pass

    def test_absolute_paths_are_distinct(self) -> None:
        storage = self.make()
        paths = [storage.absolute_path(name) for name in self.NAMES]
        assert len(set(paths)) == len(paths)
        assert all(name.rpartition("/")[2] in path for name, path in zip(self.NAMES, paths, strict=True))
