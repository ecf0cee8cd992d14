"""Leases and cursors: a bucket with one key for each lease, one for all cursors, and one for the names that may lag.

Every write names the revision that it replaces, so of two writers one fails. A holder writes its lease again every
second. A lease that has not changed for `LEASE_SECONDS`, by the clock of the watching process, can be taken; its holder
counts the same seconds from before its write, so it has stopped by then. Clocks of machines are not compared.

The names that may lag have their own key, so that earlier versions can read the cursors; they treat every consumer as
one that may not lag.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec
from nats.js.errors import BadRequestError, KeyNotFoundError, KeyWrongLastSequenceError

from headwater.base.errors import Unavailable
from headwater.log.contract import LeaseLost, LeaseTaken
from headwater.log.jetstream.connection import REQUEST_SECONDS, Connection, as_unavailable
from headwater.log.jetstream.stream import Stream

LEASE_SECONDS: Final = 5.0
RENEW_SECONDS: Final = 1.0
DELETE_ATTEMPTS: Final = 3
Item = TypeVar("Item")
Value = TypeVar("Value", dict[str, int], dict[str, bool])
_CURSORS: Final = "cursors"
_LAGGING: Final = "lagging"


class Consumers:
    """The leases and cursors of all consumers, as one process sees them."""

    def __init__(self, connection: Connection, stream: Stream, holder: str) -> None:
        """`holder` is a name that no other process has."""
        self._connection = connection
        self._stream = stream
        self._holder = f"{holder} {socket.gethostname()} {os.getpid()}"
        self._taken = 0
        self._watched: dict[str, tuple[int, float]] = {}
        self._leases: set[JetStreamLease] = set()

    async def lease(self, consumer: str, *, may_lag: bool) -> "JetStreamLease":
        """See `EventLog.lease`."""
        lease = await self._acquire(consumer)
        try:
            await self._mark(consumer, may_lag=may_lag)
            await self.move(consumer, 0)
        except BaseException:
            await lease.release()
            raise
        return lease

    async def forget(self, consumer: str) -> None:
        """See `EventLog.forget`."""
        lease = await self._acquire(consumer)
        try:
            await self._edit(_CURSORS, dict[str, int], lambda cursors: _without(cursors, consumer))
            await self._mark(consumer, may_lag=False)
        finally:
            await lease.release()

    async def cursors(self) -> dict[str, int]:
        """Return the position up to which each consumer has processed the log."""
        return (await self._value(_CURSORS, dict[str, int]))[0]

    async def lagging(self) -> set[str]:
        """Return the consumers that may lag."""
        return set((await self._value(_LAGGING, dict[str, bool]))[0])

    async def slowest(self) -> int:
        """Return the position up to which all consumers that may not lag have processed the log; 0 without any."""
        lagging = await self.lagging()
        cursors = await self.cursors()
        return min((position for consumer, position in cursors.items() if consumer not in lagging), default=0)

    async def move(self, consumer: str, position: int) -> None:
        """Move a consumer's cursor forward; create it if there is none."""
        await self._edit(
            _CURSORS,
            dict[str, int],
            lambda cursors: cursors if cursors.get(consumer, -1) >= position else {**cursors, consumer: position},
        )

    async def renew(self, lease: "JetStreamLease") -> int:
        """Write the lease again and return its revision.

        Raises LeaseLost if another holder has it, Unavailable if NATS did not confirm the write.
        """
        bucket, key, revision = self._stream.bucket, _key(lease.consumer), lease.revision
        async with as_unavailable():
            with suppress(KeyWrongLastSequenceError):
                return await bucket.update(key, lease.holder, last=revision)
        holder, revision = await self._read(key)
        if holder != lease.holder:
            raise LeaseLost(lease.consumer)
        # An earlier write arrived and its response did not. Write again, because others count from that earlier write.
        async with as_unavailable():
            return await bucket.update(key, lease.holder, last=revision)

    async def give_back(self, lease: "JetStreamLease") -> None:
        """Delete the lease so that another process can take it, if this process still holds it and NATS responds."""
        self._leases.discard(lease)
        bucket, key, revision = self._stream.bucket, _key(lease.consumer), lease.revision
        with suppress(Unavailable):
            for _ in range(DELETE_ATTEMPTS):
                async with as_unavailable():
                    with suppress(BadRequestError):  # another revision: `delete` raises no narrower error
                        await bucket.delete(key, last=revision)
                        return
                holder, revision = await self._read(key)  # a renewal whose response was lost
                if holder != lease.holder:
                    return

    async def close(self) -> None:
        """Release all leases."""
        for lease in list(self._leases):
            await lease.release()

    async def _take(self, consumer: str, holder: bytes) -> int:
        bucket = self._stream.bucket
        try:
            entry = await bucket.get(_key(consumer))
        except KeyNotFoundError:
            with suppress(KeyWrongLastSequenceError):
                return await bucket.create(_key(consumer), holder)
            raise LeaseTaken(consumer) from None
        revision, since = self._watched.get(consumer, (0, 0.0))
        if entry.revision is None or revision != entry.revision:
            self._watched[consumer] = (entry.revision or 0, time.monotonic())
            raise LeaseTaken(consumer)
        if time.monotonic() - since <= LEASE_SECONDS:
            raise LeaseTaken(consumer)
        with suppress(KeyWrongLastSequenceError):
            return await bucket.update(_key(consumer), holder, last=revision)
        raise LeaseTaken(consumer)

    async def _acquire(self, consumer: str) -> "JetStreamLease":
        """Acquire the lease of a name. Raises LeaseTaken."""
        if any(lease.consumer == consumer and lease.held for lease in self._leases):
            raise LeaseTaken(consumer)
        await self._connection.ready()
        async with as_unavailable():
            began = time.monotonic()
            self._taken += 1
            holder = f"{self._holder} {self._taken}".encode()
            revision = await self._take(consumer, holder)
        lease = JetStreamLease(self, consumer, holder, revision, began)
        self._leases.add(lease)
        return lease

    async def _mark(self, consumer: str, *, may_lag: bool) -> None:
        """Store whether a consumer may lag."""
        await self._edit(
            _LAGGING,
            dict[str, bool],
            lambda lagging: {**lagging, consumer: True} if may_lag else _without(lagging, consumer),
        )

    async def _edit(self, key: str, kind: type[Value], change: Callable[[Value], Value]) -> None:
        """Replace a value by the result of `change`, unless it is the same."""
        while True:
            value, revision = await self._value(key, kind)
            changed = change(value)
            if changed == value:
                return
            async with as_unavailable():
                with suppress(KeyWrongLastSequenceError):  # another process has changed it meanwhile
                    await self._stream.bucket.update(key, msgspec.json.encode(changed), last=revision)
                    return

    async def _value(self, key: str, kind: type[Value]) -> tuple[Value, int]:
        await self._connection.ready()
        value, revision = await self._read(key)
        return msgspec.json.decode(value or b"{}", type=kind), revision

    async def _read(self, key: str) -> tuple[bytes | None, int]:
        async with as_unavailable():
            try:
                entry = await self._stream.bucket.get(key)
            except KeyNotFoundError:
                return None, 0
            return entry.value, entry.revision or 0


class JetStreamLease:
    """A `Lease` that one task renews until it is released or lost."""

    def __init__(self, consumers: Consumers, consumer: str, holder: bytes, revision: int, renewed: float) -> None:
        self.consumer = consumer
        self.holder = holder
        self.revision = revision
        """The newest revision that NATS has confirmed."""
        self._consumers = consumers
        self._released = asyncio.Event()
        self._renewed = renewed
        self._is_ours = True
        self._renewing = asyncio.create_task(self._renew(), name=f"lease-{consumer}")

    @property
    def held(self) -> bool:
        if time.monotonic() - self._renewed >= LEASE_SECONDS:
            self._is_ours = False
        return self._is_ours

    async def advance(self, position: int) -> None:
        if not self.held:
            raise LeaseLost(self.consumer)
        await self._consumers.move(self.consumer, position)

    async def release(self) -> None:
        """Stop renewing, then delete the lease.

        It waits for a renewal in progress, up to `REQUEST_SECONDS`: a cancelled one could still arrive, and the
        deletion would then fail because it names an older revision.
        """
        self._is_ours = False
        self._released.set()
        await asyncio.wait([self._renewing], timeout=REQUEST_SECONDS)
        self._renewing.cancel()
        with suppress(asyncio.CancelledError):
            await self._renewing
        await self._consumers.give_back(self)

    async def _renew(self) -> None:
        while self.held:
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._released.wait()
                    return
            began = time.monotonic()
            try:
                self.revision = await self._consumers.renew(self)
            except Unavailable:
                continue  # there is time for another attempt
            except LeaseLost:
                self._is_ours = False
            else:
                self._renewed = began


def _without(value: dict[str, Item], consumer: str) -> dict[str, Item]:
    return {name: item for name, item in value.items() if name != consumer}


def _key(consumer: str) -> str:
    return f"lease.{consumer}"
