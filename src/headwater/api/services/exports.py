"""Exports everything that is known of a person, in pages of records."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from headwater.api.messages.profiles import read_kpid
from headwater.api.request import Context, require_workspace
from headwater.base.clock import from_microseconds
from headwater.base.errors import NotFound
from headwater.base.mentions import Mentions
from headwater.catalog import Catalog
from headwater.state import StateStore, erasure
from headwater.state.erasure import Subject
from headwater.state.profiles.model import IdentityRow, ProfileRow
from headwater.state.suppressions import PersonName
from headwater.warehouse import EventCursor, Person, Warehouse

Record = tuple[str, str]
"""The kind of a record, and the record as a JSON object."""

PAGE_EVENTS: Final = 500
PAGE_BYTES: Final = 1 << 20
"""Size from which a page has no further record. Clients of gRPC accept messages of 4 MiB by default."""
_encode: Final = msgspec.json.Encoder().encode


class PersonExporter:
    """Reads the records of a profile from the state store and the warehouse."""

    def __init__(self, catalog: Catalog, state: StateStore, warehouse: Warehouse) -> None:
        self._catalog = catalog
        self._state = state
        self._warehouse = warehouse

    async def export(self, kpid: str, context: Context) -> AsyncGenerator[list[Record], None]:
        """Yield the records of a profile in pages of about `PAGE_BYTES`. Raises BadRequest and NotFound before the
        first."""
        async with aclosing(self._read_all(kpid, context)) as reading:
            async for records in reading:
                for page in _divide(records):
                    yield page

    async def _read_all(self, kpid: str, context: Context) -> AsyncGenerator[list[Record], None]:
        """Yield the records of a profile as they are read."""
        workspace = await require_workspace(self._catalog, context)
        id_ = read_kpid(kpid)
        subject = await self._state.read(lambda connection: erasure.find_profile(connection, workspace, id_))
        profile = await self._state.read(lambda connection: erasure.read_profile(connection, subject))
        if profile is None:
            raise NotFound(f"profile {kpid} does not exist", field="kpid")
        yield [_profile_record(profile)]
        yield await self._read_people(subject)
        mentions = subject.mentions()
        last: int | None = 0
        while last is not None:
            rows, last = await self._state.read(partial(_read_rejected, subject, mentions, last))
            if rows:
                yield [_rejected_record(row) for row in rows]
        persons = [_person(name) for name in subject.names]
        before: EventCursor | None = None
        while True:
            page = await self._warehouse.find_events(workspace, persons, before=before, limit=PAGE_EVENTS)
            if page.documents:
                yield [("event", document.decode()) for document in page.documents]
            before = page.cursor
            if before is None:
                return

    async def _read_people(self, subject: Subject) -> list[Record]:
        """Return identities, devices and traits."""
        identities = await self._state.read(lambda connection: erasure.read_identities(connection, subject))
        devices = await self._state.read(lambda connection: erasure.read_devices(connection, subject))
        traits = await self._state.read(lambda connection: erasure.read_traits(connection, subject))
        records = [_identity_record(row) for row in identities]
        for device in devices:
            members = {_camel(name): value for name, value in device.items() if value is not None}
            records.append(("device", _text(members | {"updatedAt": _time(device["updated_at"])})))
        for connection, id_, is_anonymous, text in traits:
            name = "anonymousId" if is_anonymous else "userId"
            stored = msgspec.Raw(text.encode())
            records.append(("traits", _text({"connection": connection, name: id_, "traits": stored})))
        return records


def _divide(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield the records in pages of about `PAGE_BYTES`."""
    page: list[Record] = []
    size = 0
    for record in records:
        page.append(record)
        size += len(record[1])
        if size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def _read_rejected(subject: Subject, mentions: Mentions, after: int, connection: Any) -> tuple[list[Any], int | None]:
    return erasure.read_rejected(connection, subject, mentions, after)


def _profile_record(profile: ProfileRow) -> Record:
    members = {
        "kpid": str(UUID(bytes=profile.kpid)),
        "updatedAt": _time(profile.updated_at),
        "attributes": msgspec.Raw(profile.attributes.encode()),
    }
    return "profile", _text(members)


def _identity_record(row: IdentityRow) -> Record:
    name = "anonymousId" if row.name.is_anonymous else "userId"
    members = {
        "connection": row.name.connection,
        "pipeline": row.pipeline,
        name: row.name.identity_id,
        "anonymousIds": msgspec.Raw(row.anonymous_ids.encode()),
        "updatedAt": _time(row.updated_at),
        "attributes": msgspec.Raw(row.attributes.encode()),
    }
    return "identity", _text(members)


def _rejected_record(row: Any) -> Record:
    members = {
        "connection": row.connection,
        "receivedAt": _time(row.received_at),
        "code": row.code,
        "path": row.path,
        "message": row.message,
        "body": row.body.decode(errors="replace"),
    }
    return "rejected event", _text(members)


def _person(name: PersonName) -> Person:
    if name.is_anonymous:
        return Person(connection=name.connection, anonymous_id=name.id)
    return Person(connection=name.connection, user_id=name.id)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _time(stored: int) -> str:
    return from_microseconds(stored).isoformat().replace("+00:00", "Z")


def _text(members: dict[str, Any]) -> str:
    return _encode(members).decode()
