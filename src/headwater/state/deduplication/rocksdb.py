"""The ledger in RocksDB, a log-structured merge tree, beside a warehouse in SQLite.

Message ids are random, and an index on random values costs a B-tree a page to write for each of them as soon as it is
larger than the cache: a SQLite table falls to a third of its speed at five million messages. A merge tree writes them
in order, later. Decision record 0019 has the figures.

A key is the connection, four bytes, and the message id in UTF-8; a value is an encoded `Entry`. RocksDB forgets a key
`KEPT` after it was last written, when it merges the file that it is in.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.errors import Unavailable
from headwater.state.deduplication.message import MessageKey, MessageStates, decode_message, encode_message
from headwater.state.deduplication.retention import RETENTION

Result = TypeVar("Result")

_MIB: Final = 1024 * 1024
_EXPIRY_BYTES: Final = 4
"""What RocksDB appends to values that expire. Only a reader in another process gets to see it."""


class RocksMessageStore:
    """The ledger in the folder `path`: the one process that writes it (`writes`), or any number that read it.

    It is opened when it is first needed, and again after an error. Everything raises Unavailable when it cannot be read
    or written. While it is open a reader needs a folder for itself: `scratch`, where what a killed process left goes
    when the next one opens it, or a temporary one.
    """

    def __init__(self, path: Path, *, writes: bool, scratch: Path | None = None) -> None:
        self._path = path
        self._writes = writes
        self._database: Rdict | None = None
        self._own_scratch = scratch
        self._scratch: Path | None = None
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._durably = WriteOptions()
        self._durably.sync = True

    async def lookup(self, connection: AsyncConnection, keys: Collection[MessageKey]) -> MessageStates:
        return await self._off_loop(lambda: self._read(list(keys)))

    async def save(self, connection: AsyncConnection, entries: MessageStates) -> None:
        def write() -> None:
            if (database := self._opened()) is not None:
                batch = WriteBatch(raw_mode=True)
                for key, entry in entries.items():
                    batch.put(_key(key), encode_message(entry))
                database.write(batch, self._durably)

        await self._off_loop(write)

    async def trim(self, connection: AsyncConnection) -> None:
        """Nothing to do: what is old expires."""

    async def close(self) -> None:
        await self._off_loop(self._let_go)
        self._thread.shutdown()

    async def _off_loop(self, work: Callable[[], Result]) -> Result:
        """Everything happens in one thread, one after another."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except Exception as error:
            # A write that failed, on a full disk above all, fails all that follow until the database is opened again.
            self._let_go()
            if not _is_outage(error):
                raise
            raise Unavailable(f"the ledger does not answer: {error}") from error

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(Exception):  # it says once more what failed; what was durable is
                database.close()
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    def _read(self, keys: list[MessageKey]) -> MessageStates:
        database = self._opened()
        if database is None or not keys:
            return {}
        values = database.get([_key(key) for key in keys]) or ()
        end = None if self._writes else -_EXPIRY_BYTES
        return {key: decode_message(value[:end]) for key, value in zip(keys, values, strict=True) if value is not None}

    def _opened(self) -> Rdict | None:
        """The database, as new as it can be; None when there is none to read."""
        if self._writes:
            if self._database is None:
                lifetime = AccessType.with_ttl(int(RETENTION.total_seconds()))
                self._database = _open(self._path, lifetime)
            return self._database
        if self._database is None:
            if not (self._path / "CURRENT").exists():
                return None
            self._scratch = self._new_scratch()
            self._database = _open(self._path, AccessType.secondary(str(self._scratch)))
        self._database.try_catch_up_with_primary()
        return self._database

    def _new_scratch(self) -> Path:
        if self._own_scratch is None:
            return Path(tempfile.mkdtemp(prefix="headwater-ledger-"))
        with suppress(FileNotFoundError):
            shutil.rmtree(self._own_scratch)
        self._own_scratch.mkdir()
        return self._own_scratch


def _is_outage(error: Exception) -> bool:
    """Whether the database is to blame. The library raises plain `Exception`: any other class is a bug."""
    return type(error) is Exception or isinstance(error, OSError) or type(error).__module__.startswith("rocksdict")


def _open(path: Path, access: AccessType) -> Rdict:
    # Given for the family of columns by name, too: else the options of a database that exists come from its own file,
    # which does not say how to make Bloom filters, and from the second opening on there were none.
    options = _options()
    return Rdict(str(path), options, column_families={"default": options}, access_type=access)


def _key(key: MessageKey) -> bytes:
    connection, message_id = key
    return connection.to_bytes(4) + message_id.encode()


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    tables = BlockBasedOptions()
    # Most keys are new, and a Bloom filter says so without reading a page. The filters stay in memory, 1.3 bytes for
    # each message: in the cache they would drive each other out as soon as it is full.
    tables.set_bloom_filter(10, False)
    tables.set_block_cache(Cache(16 * _MIB))
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_size(16 * _MIB)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    return options
