"""Messages in RocksDB, a log-structured merge tree, next to a state store in SQLite.

Message ids are random, and an index on random values costs a B-tree a page write for each as soon as it is larger than
the cache: a SQLite table falls to a third of its speed at five million messages. A merge tree writes them in order,
later. Decision records 0019 and 0034 have the figures.

A key is the connection, four bytes, and the message id: a UUID or 32 hexadecimal digits as 16 bytes after a type byte,
any other id in UTF-8. A value is an encoded `MessageState`. RocksDB deletes a key `RETENTION` after it was last
written, when it merges the file that contains it.

Earlier releases wrote every id in UTF-8. Those keys are looked up, too, until the last of them has expired: the key
`_FORMER_KEY` has that time.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast
from uuid import UUID

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable, UnusableDatabase
from headwater.base.threads import SerialExecutor
from headwater.state.deduplication.contract import RETENTION
from headwater.state.deduplication.message import MessageKey, MessageStates, decode_message, encode_message
from headwater.storage.sessions import Session

Result = TypeVar("Result")

_MIB: Final = 1024 * 1024
_EXPIRY_BYTES: Final = 4
"""Length of the suffix that RocksDB appends to values that expire. Only a reader in another process sees it."""


class RocksMessageStore:
    """Messages in the folder `path`: for the one process that writes it (`writes`), or any number that read it.

    It is opened at the first use, and again after an error. Every method raises Unavailable if it cannot be read or
    written. A reader needs its own folder while it is open: `scratch`, whose leftovers of a killed process are deleted,
    or a temporary one.
    """

    def __init__(self, path: Path, *, writes: bool, clock: Clock, scratch: Path | None = None) -> None:
        self._path = path
        self._writes = writes
        self._clock = clock
        self._former_until: int | None = None
        """Latest expiry of keys of an earlier release, in microseconds since the epoch; None if unknown."""
        self._marked_at = 0
        self._latest: dict[MessageKey, bytes] = {}
        """The keys of the last lookup, which are saved next."""
        self._database: Rdict | None = None
        self._own_scratch = scratch
        self._scratch: Path | None = None
        self._removed: set[bytes] = set()
        """The keys that were removed since files were compacted. After a restart all files are."""
        self._thread = SerialExecutor("ledger")
        self._durably = WriteOptions()
        self._durably.sync = True

    async def lookup(self, session: Session, keys: Collection[MessageKey]) -> MessageStates:
        return await self._off_loop(lambda: self._read(list(keys)))

    async def save(self, session: Session, states: MessageStates) -> None:
        def write() -> None:
            if (database := self._open_database()) is not None:
                batch = WriteBatch(raw_mode=True)
                for key, state in states.items():
                    batch.put(self._latest.get(key) or _key(key), encode_message(state))
                database.write(batch, self._durably)

        await self._off_loop(write)

    async def remove(self, session: Session, keys: Collection[MessageKey]) -> None:
        def delete() -> None:
            if keys and (database := self._open_database()) is not None:
                batch = WriteBatch(raw_mode=True)
                for key in keys:
                    for form in {_key(key), _former_key(key)}:
                        batch.delete(form)
                        self._removed.add(form)
                database.write(batch, self._durably)

        await self._off_loop(delete)

    async def overwrite_removed(self) -> None:
        """Write the files again that may contain removed keys: those of the range from the first to the last."""

        database = await self._off_loop(self._open_database)
        if database is None:
            return
        removed, self._removed = self._removed, set()
        first, last = (min(removed), max(removed)) if removed else (None, None)
        options = CompactOptions()
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())

        def compact() -> None:
            database.flush()
            database.compact_range(first, last, options)

        try:
            await asyncio.to_thread(compact)
        except Exception as error:
            self._removed |= removed
            if not _is_outage(error):
                raise
            raise Unavailable(f"the deduplication store does not respond: {error}") from error

    async def trim(self, session: Session) -> None:
        """Write the mark of former keys again. Messages expire by themselves."""
        if microseconds(self._clock.now()) - self._marked_at > _MARK_INTERVAL_MICROSECONDS:
            await self._off_loop(self._mark)

    async def close(self) -> None:
        await self._thread.close(self._let_go)

    async def _off_loop(self, work: Callable[[], Result]) -> Result:
        """Run work in the one thread of the store, in the order of the calls."""
        return await self._thread.run(partial(self._guarded, work))

    def _guarded(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except Exception as error:
            # After a failed write, for example on a full disk, all writes fail until the database is opened again.
            self._let_go()
            if not _is_outage(error):
                raise
            raise Unavailable(f"the deduplication store does not respond: {error}") from error

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(Exception):  # it raises the same error again; durable data is not affected
                database.close()
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    def _read(self, keys: list[MessageKey]) -> MessageStates:
        database = self._open_database()
        if database is None or not keys:
            return {}
        self._latest = {key: _key(key) for key in keys}
        found = self._get(database, self._latest)
        if self._may_have_former_keys(database):
            former = {key: _former_key(key) for key in keys if key not in found}
            found |= self._get(database, {key: old for key, old in former.items() if old != self._latest[key]})
        return found

    def _get(self, database: Rdict, keys: dict[MessageKey, bytes]) -> MessageStates:
        if not keys:
            return {}
        values = database.get(list(keys.values())) or ()
        end = None if self._writes else -_EXPIRY_BYTES
        return {key: decode_message(value[:end]) for key, value in zip(keys, values, strict=True) if value is not None}

    def _may_have_former_keys(self, database: Rdict) -> bool:
        if self._former_until is None:
            value = database.get(_FORMER_KEY)
            if value is None:
                return True
            self._former_until = int.from_bytes(value[:8])
        return microseconds(self._clock.now()) < self._former_until

    def _mark(self) -> None:
        """Write the latest expiry of former keys: `RETENTION` after the first use of a folder that has any."""
        database, now = self._open_database(), microseconds(self._clock.now())
        if database is None:
            return
        value = database.get(_FORMER_KEY)
        if value is None:
            is_empty = next(iter(database.keys()), None) is None
            value = (0 if is_empty else now + RETENTION // timedelta(microseconds=1)).to_bytes(8)
        database.put(_FORMER_KEY, value, self._durably)
        self._marked_at = now

    def _open_database(self) -> Rdict | None:
        """Return the database in its latest state; None if there is none to read."""
        if self._writes:
            if self._database is None:
                lifetime = AccessType.with_ttl(int(RETENTION.total_seconds()))
                self._database = _open(self._path, lifetime)
                self._mark()
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
            return Path(tempfile.mkdtemp(prefix="headwater-deduplication-"))
        with suppress(FileNotFoundError):
            shutil.rmtree(self._own_scratch)
        self._own_scratch.mkdir()
        return self._own_scratch


def read_messages(path: Path) -> Iterator[tuple[MessageKey, bytes]]:
    """Yield the stored messages of a folder that no process writes, with their stored values.

    A message with a key of an earlier release is left out if it has a present one, too. Raises UnusableDatabase if the
    folder cannot be read. A missing one has no messages.
    """
    if not (path / "CURRENT").exists():
        return
    try:
        database = _open(path, AccessType.read_only())
        try:
            for stored, value in cast(Iterator[tuple[bytes, bytes]], database.items()):
                if stored == _FORMER_KEY:
                    continue
                key = _read_key(stored)
                if (present := _key(key)) == stored or database.get(present) is None:
                    yield key, value[:-_EXPIRY_BYTES]
        finally:
            database.close()
    except Exception as error:
        if not _is_outage(error):
            raise
        raise UnusableDatabase(f"{path} cannot be read: {error}") from error


def estimate_messages(path: Path) -> int:
    """Return about how many messages a folder has that no process writes. Raises UnusableDatabase."""
    if not (path / "CURRENT").exists():
        return 0
    try:
        database = _open(path, AccessType.read_only())
        try:
            return int(database.property_int_value("rocksdb.estimate-num-keys") or 0)
        finally:
            database.close()
    except Exception as error:
        if not _is_outage(error):
            raise
        raise UnusableDatabase(f"{path} cannot be read: {error}") from error


def _is_outage(error: Exception) -> bool:
    """Return whether the database caused an error. The library raises plain `Exception`, so any other class is a
    bug."""
    return type(error) is Exception or isinstance(error, OSError) or type(error).__module__.startswith("rocksdict")


def _open(path: Path, access: AccessType) -> Rdict:
    # The options are also given for the column family by name: otherwise those of an existing database come from its
    # own file, which has no Bloom filter settings.
    options = _options()
    return Rdict(str(path), options, column_families={"default": options}, access_type=access)


def _key(key: MessageKey) -> bytes:
    connection, id_ = key
    digits, kind = id_, _HEX
    if len(id_) == 36 and id_[8] == id_[13] == id_[18] == id_[23] == "-":
        digits, kind = id_.replace("-", ""), _UUID
    if len(digits) == 32 and digits == digits.lower():
        try:
            packed = bytes.fromhex(digits)
        except ValueError:
            return _former_key(key)
        if len(packed) == 16:  # spaces are ignored
            return connection.to_bytes(4) + kind + packed
    return _former_key(key)


def _former_key(key: MessageKey) -> bytes:
    connection, message_id = key
    return connection.to_bytes(4) + message_id.encode()


def _read_key(stored: bytes) -> MessageKey:
    connection, kind, packed = int.from_bytes(stored[:4]), stored[4:5], stored[5:]
    if kind == _UUID:
        return connection, str(UUID(bytes=packed))
    return connection, packed.hex() if kind == _HEX else stored[4:].decode()


_UUID: Final = b"\xff"
"""The first byte of an id that is a UUID in lower case. UTF-8 never has this byte."""
_HEX: Final = b"\xfe"
"""The first byte of an id of 32 hexadecimal digits in lower case."""
_FORMER_KEY: Final = b"\xff\xff\xff\xffformer"
"""The key of the mark. No connection has this number."""
_MARK_INTERVAL_MICROSECONDS: Final = 24 * 3_600 * 1_000_000
"""Interval at which the mark is written again, because it expires like all keys."""
_MEMORY_FILTER_RATIO: Final = 0.02
"""Size of the filter of keys in memory, as a share of the write buffer: some 20 bits for each key."""


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    tables = BlockBasedOptions()
    # Most keys are new, and a Bloom filter detects that without reading a page. The filters stay in memory, 1.3 bytes
    # for each message: in the cache they would evict each other once it is full.
    tables.set_bloom_filter(10, False)
    tables.set_block_cache(Cache(16 * _MIB))
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_size(16 * _MIB)
    # The same for keys in memory: searching the list of the 130,000 latest keys takes three times as long.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_MEMORY_FILTER_RATIO)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    return options
