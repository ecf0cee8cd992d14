"""Finds and removes everything of a person in the state store. Works on the connection of a transaction.

Each function that removes does a limited part and returns where the next call begins, None after the last part. With
`dry` it counts and removes nothing.
"""

import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Column, Connection, Table, func, select, update

from headwater.base.mentions import Mentions
from headwater.state import bulk, tables
from headwater.state.exports import count_records_of_profiles
from headwater.state.lanes import NO_DOCUMENT, LaneEntry
from headwater.state.profiles import tables as profile_tables
from headwater.state.profiles.model import ChangedIdentity, IdentityName, IdentityRow, LinkValue, ProfileRow
from headwater.state.profiles.resolving import ProfileUpdater, ResolutionRows, update_profiles
from headwater.state.suppressions import ANY_CONNECTION, PersonName

MAX_STEP_IDENTITIES: Final = 500
"""Maximum number of identities that one call removes."""
MAX_EXAMINED_IDENTITIES: Final = 2_000
"""Maximum number of identities whose age one call examines."""
MAX_IDENTIFIERS: Final = 10
"""Maximum number of identifiers of a workspace."""
MAX_STEP_ROWS: Final = 200
"""Maximum number of rejected events, or of chunks of a lane, that one call examines."""

IsPerson = Callable[[int, str | None, str | None], bool]
"""A test of whether an event of a connection with these ids belongs to the person."""


class Subject(Struct, frozen=True):
    """The person to erase."""

    workspace: int
    names: tuple[PersonName, ...] = ()
    """The ids of the person, by connection."""
    profiles: tuple[int, ...] = ()
    """The profiles whose identities are all erased."""
    identities: tuple[int, ...] = ()
    values: tuple[str, ...] = ()
    """Values of identifiers, such as an email address, that only rejected events and messages are searched for."""

    def is_in(self, connection: int) -> bool:
        """Return whether the person has ids in a connection. Calls with an unknown key have connection 0."""
        return connection == 0 or any(name.connection in (ANY_CONNECTION, connection) for name in self.names)

    def mentions(self) -> Mentions:
        """Return a test for texts with one of the ids or values."""
        return Mentions([*(name.id for name in self.names), *self.values])


class Part(Struct, frozen=True):
    """The result of a part of an erasure."""

    removed: int
    after: int | None = None
    """The cursor of the next part; None after the last one."""


# --- The person ---------------------------------------------------------------------------------------------------


def find_profile(connection: Connection, workspace: int, kpid: bytes) -> Subject:
    """Return the person of a profile; one without names if there is no such profile."""
    rows = ResolutionRows(connection)
    profile = rows.find(workspace, kpid)
    if profile is None:
        return Subject(workspace)
    members = rows.find_members([profile.id])
    values = {value for member in members for value in member.evidence if value is not None}
    names = {member.name for member in members}
    subject = _with_identities(connection, workspace, names, values, (profile.id,))
    # A member whose identity was deleted stays until it is resolved.
    identities = {*subject.identities, *(member.identity for member in members)}
    return replace(subject, identities=tuple(sorted(identities)))


def find_names(connection: Connection, workspace: int, names: Collection[IdentityName]) -> Subject:
    """Return the person with these names, whether or not it has identities. Names of other workspaces find none."""
    ids = [identity.id for identity in _named(connection, workspace, names)]
    members = ResolutionRows(connection).members(ids)
    values = {value for member in members for value in member.evidence if value is not None}
    return _with_identities(connection, workspace, set(names), values, ())


def _with_identities(
    connection: Connection, workspace: int, names: set[IdentityName], values: set[str], profiles: tuple[int, ...]
) -> Subject:
    """Add the anonymous ids of the identities with these names, and their ids."""
    identities = _named(connection, workspace, names)
    found = {PersonName(name.connection, name.identity_id, name.is_anonymous) for name in names}
    for identity in identities:
        found |= {PersonName(identity.name.connection, id_, True) for id_ in _decode_ids(identity.anonymous_ids)}
    return Subject(
        workspace,
        tuple(sorted(found, key=msgspec.structs.astuple)),
        profiles,
        tuple(sorted(identity.id for identity in identities)),
        tuple(sorted(values)),
    )


def _named(connection: Connection, workspace: int, names: Collection[IdentityName]) -> list[IdentityRow]:
    """Return the identities of a workspace with these names, the oldest first."""
    rows = ResolutionRows(connection)
    named = sorted(id_ for ids in rows.identities_named(names).values() for id_ in ids)
    return [row for row in rows.identities(named) if row.workspace == workspace]


# --- Identities and profiles --------------------------------------------------------------------------------------


def remove_identities(connection: Connection, subject: Subject, updater: ProfileUpdater, *, dry: bool = False) -> Part:
    """Delete identities, and let `updater` take them out of their profiles, or leave that to a resolution."""
    own = _named(connection, subject.workspace, _names(subject))[: None if dry else MAX_STEP_IDENTITIES]
    if dry or not own:
        return Part(len(own))
    _remove(connection, own, updater)
    return Part(len(own), 0)


def remove_anonymous_before(
    connection: Connection, workspace: int, updated_at: int, updater: ProfileUpdater, *, after: int
) -> int | None:
    """Delete anonymous identities that were last updated before a time, among the next ones with ids above `after`.

    Return the last examined id; None if there is none.
    """
    table = tables.identities.c
    query = select(table.id, table.is_anonymous, table.updated_at).where(table.workspace == workspace, table.id > after)
    rows = connection.execute(query.order_by(table.id).limit(MAX_EXAMINED_IDENTITIES)).all()
    old = [row.id for row in rows if row.is_anonymous and row.updated_at < updated_at]
    _remove(connection, ResolutionRows(connection).identities(old), updater)
    return rows[-1].id if rows else None


def _remove(connection: Connection, rows: Sequence[IdentityRow], updater: ProfileUpdater) -> None:
    """Delete identities, and take them out of their profiles."""
    if not rows:
        return
    bulk.remove(connection, (tables.identities.c.id,), [(row.id,) for row in rows])
    changed = [
        ChangedIdentity(row.id, row.workspace, row.name, row.pipeline, None, row.updated_at, False, True)
        for row in rows
    ]
    update_profiles(connection, changed, updater)


def has_members(connection: Connection, subject: Subject) -> bool:
    """Return whether identities of the person are still in profiles, because a resolution has not processed them."""
    return bool(ResolutionRows(connection).members(subject.identities)) or lacks_members(connection, subject.workspace)


def lacks_members(connection: Connection, workspace: int) -> bool:
    """Return whether profiles of the workspace may lack members: a resolution of all identities has not ended."""
    rows = ResolutionRows(connection)
    return rows.applied(workspace) is None and rows.count_profiles(workspace) > 0


def find_profiles(connection: Connection, subject: Subject) -> tuple[set[int], int]:
    """Return the profiles that have only identities of the person, and the number of their aliases and records of
    exports, which are gone with them."""
    own = _own_profiles(connection, subject)
    aliases = _remove_rows(connection, profile_tables.profile_aliases.c.profile, own, dry=True)
    return own, aliases + count_records_of_profiles(connection, own)


def _own_profiles(connection: Connection, subject: Subject) -> set[int]:
    rows = ResolutionRows(connection)
    known = set(subject.identities)
    return {
        profile
        for profile in {member.profile for member in rows.members(subject.identities)}
        if all(member.identity in known for member in rows.find_members([profile]))
    }


def remove_traces_of_profiles(connection: Connection, subject: Subject, *, dry: bool = False) -> int:
    """Delete aliases and history of profiles that are gone, refused evidence, and names in separations.

    Return the number of rows without the aliases, most of which are gone with their profiles.
    """
    rows = ResolutionRows(connection)
    gone = set(subject.profiles) - {profile.id for profile in rows.profiles(subject.profiles)}
    if dry:
        gone = _own_profiles(connection, subject)
    _remove_rows(connection, profile_tables.profile_aliases.c.profile, gone, dry=dry)
    removed = _remove_rows(connection, profile_tables.profile_changes.c.profile, gone, dry=dry)
    refusals = profile_tables.resolution_refusals.c
    for column in (refusals.identity, refusals.other):
        removed += _remove_rows(connection, column, set(subject.identities), dry=dry)
    removed += _remove_values(connection, subject, dry=dry)
    for separation in rows.separations(subject.workspace, _names(subject)):
        removed += 1
        if not dry:
            _remove_names(connection, subject, separation.id)
    return removed


def _remove_values(connection: Connection, subject: Subject, *, dry: bool) -> int:
    """Delete stored values that no other identity has."""
    table = profile_tables.resolution_refusals
    columns = (table.c.id, table.c.identifier, table.c.value, table.c.identity)
    key = (table.c.workspace, table.c.identifier, table.c.value)
    keys = [(subject.workspace, identifier, value) for identifier in range(MAX_IDENTIFIERS) for value in subject.values]
    found = [row for row in bulk.lookup(connection, columns, key, keys) if row.identity == 0]
    values = {LinkValue(row.identifier, row.value) for row in found}
    held = ResolutionRows(connection).holders(subject.workspace, values, 0)
    unused = [(row.id,) for row in found if LinkValue(row.identifier, row.value) not in held]
    return len(unused) if dry else bulk.remove(connection, (table.c.id,), unused)


def _remove_names(connection: Connection, subject: Subject, separation: int) -> None:
    """Take the names out of a separation, and delete it if fewer than two sides are left."""
    table = profile_tables.separation_members.c
    key = (table.separation, table.connection, table.identity_id, table.is_anonymous)
    names = _names(subject)
    bulk.remove(
        connection,
        key,
        [(separation, name.connection, name.identity_id, name.is_anonymous) for name in names],
    )
    sides = connection.scalar(select(func.count(table.side.distinct())).where(table.separation == separation))
    if sides is not None and sides < 2:
        ResolutionRows(connection).remove_separation(subject.workspace, separation)


# --- Devices and traits -------------------------------------------------------------------------------------------


def remove_devices(connection: Connection, subject: Subject, *, dry: bool = False) -> int:
    """Delete the devices of the person; return their number."""
    found = _find_devices(connection, subject)
    return len(found) if dry else bulk.remove(connection, (tables.devices.c.id,), [(id_,) for id_ in found])


def _find_devices(connection: Connection, subject: Subject) -> list[int]:
    table = tables.devices.c
    found: set[int] = set()
    for is_anonymous, column in ((False, table.user_id), (True, table.anonymous_id)):
        keys = [(name.connection, name.id) for name in subject.names if name.is_anonymous is is_anonymous]
        columns = (table.id, table.workspace, table.user_id)
        rows = bulk.lookup(connection, columns, (table.connection, column), _storable(connection, keys))
        found |= {
            id_
            for id_, workspace, user_id in rows
            if workspace == subject.workspace and (user_id is None or not is_anonymous)
        }
    return sorted(found)


def remove_traits(connection: Connection, subject: Subject, *, dry: bool = False) -> int:
    """Delete the stored traits of the person; return the number of rows."""
    table = tables.traits.c
    key = (table.connection, table.identity_id, table.is_anonymous)
    keys = [(name.connection, name.id, name.is_anonymous) for name in subject.names]
    keys = _storable(connection, keys)
    return len(bulk.lookup(connection, key, key, keys)) if dry else bulk.remove(connection, key, keys)


# --- Rejected events and errors -----------------------------------------------------------------------------------


def remove_rejected(
    connection: Connection, subject: Subject, mentions: Mentions, after: int, *, dry: bool = False
) -> tuple[Part, list[tuple[int, str]]]:
    """Delete rejected events that mention the person. Also return the messages of deleted ones."""
    rows, last = _page_rejected(connection, subject, after)
    found = [row for row in rows if _mentions(subject, mentions, row)]
    if not dry:
        bulk.remove(connection, (tables.rejected_events.c.position,), [(row.position,) for row in found])
    messages = [(row.connection, row.message_id) for row in found if row.message_id is not None]
    return Part(len(found), last), messages


def _page_rejected(connection: Connection, subject: Subject, after: int) -> tuple[Sequence[Any], int | None]:
    table = tables.rejected_events
    mine = (table.c.workspace == subject.workspace, table.c.position > after)
    rows = connection.execute(select(table).where(*mine).order_by(table.c.position).limit(MAX_STEP_ROWS)).all()
    return rows, rows[-1].position if len(rows) == MAX_STEP_ROWS else None


def _mentions(subject: Subject, mentions: Mentions, row: Any) -> bool:
    return subject.is_in(row.connection) and (mentions.are_in(row.body) or mentions.are_in_text(row.message))


def remove_errors(
    connection: Connection, errors: Table, pipelines: Collection[int], mentions: Mentions, *, dry: bool = False
) -> int:
    """Delete the errors of pipelines whose messages mention the person; return the number of rows."""
    table = errors.c
    key = (table.pipeline, table.start, table.step, table.digest)
    removed = 0
    for pipeline in sorted(pipelines):
        rows = connection.execute(select(*key, table.message).where(table.pipeline == pipeline)).all()
        found = [tuple(row[:4]) for row in rows if mentions.are_in_text(row.message)]
        removed += len(found) if dry else bulk.remove(connection, key, found)
    return removed


def remove_rejected_before(connection: Connection, workspace: int, received_at: int) -> int:
    """Delete the oldest rejected events of a workspace if they arrived before a time, a limited number. Return it."""
    table = tables.rejected_events.c
    query = select(table.position, table.received_at).where(table.workspace == workspace)
    rows = connection.execute(query.order_by(table.position).limit(MAX_STEP_ROWS)).all()
    return bulk.remove(
        connection, (table.position,), [(row.position,) for row in rows if row.received_at < received_at]
    )


# --- Exports ------------------------------------------------------------------------------------------------------


def read_profile(connection: Connection, subject: Subject) -> ProfileRow | None:
    """Return the profile of the person, if it was named by one."""
    found = ResolutionRows(connection).profiles(subject.profiles)
    return found[0] if found else None


def read_identities(connection: Connection, subject: Subject) -> list[IdentityRow]:
    """Return the identities of the person, the oldest first."""
    return sorted(ResolutionRows(connection).identities(subject.identities), key=lambda row: row.id)


def read_devices(connection: Connection, subject: Subject) -> list[dict[str, Any]]:
    """Return the devices of the person by column."""
    ids = [(id_,) for id_ in _find_devices(connection, subject)]
    columns = [column for column in tables.devices.c if column.name not in ("id", "workspace")]
    names = [column.name for column in columns]
    return [dict(zip(names, row, strict=True)) for row in bulk.lookup(connection, columns, (tables.devices.c.id,), ids)]


def read_traits(connection: Connection, subject: Subject) -> list[tuple[int, str, bool, str]]:
    """Return the stored traits of the person: connection, id, whether it is anonymous, and a JSON object."""
    table = tables.traits.c
    key = (table.connection, table.identity_id, table.is_anonymous)
    keys = _storable(connection, [(name.connection, name.id, name.is_anonymous) for name in subject.names])
    found = bulk.lookup(connection, (*key, table.traits), key, keys)
    return [(source, id_, bool(is_anonymous), traits) for source, id_, is_anonymous, traits in found]


def read_rejected(
    connection: Connection, subject: Subject, mentions: Mentions, after: int
) -> tuple[list[Any], int | None]:
    """Return rejected events that mention the person, and the cursor of the next call; None after the last one."""
    rows, last = _page_rejected(connection, subject, after)
    return [row for row in rows if _mentions(subject, mentions, row)], last


# --- Lanes --------------------------------------------------------------------------------------------------------


def remove_from_lanes(
    connection: Connection, subject: Subject, is_person: IsPerson, after: int, *, dry: bool = False
) -> tuple[Part, list[tuple[int, str]]]:
    """Take the person out of the entries and documents of lanes, body by body. Also return the messages.

    An entry stays at its place without ids and document, so the courier's progress stays valid.
    """
    table = tables.lane_chunks.c
    pages: list[tuple[int, int, Sequence[Any]]] = []
    last: int | None = None
    for lane in connection.execute(select(tables.lanes).where(tables.lanes.c.workspace == subject.workspace)).all():
        mine = (table.pipeline == lane.pipeline, table.first_position > after)
        query = select(table.first_position, table.body, table.entries).where(*mine).order_by(table.first_position)
        rows = connection.execute(query.limit(MAX_STEP_ROWS)).all()
        pages.append((lane.pipeline, lane.connection, rows))
        if len(rows) == MAX_STEP_ROWS and (last is None or rows[-1].first_position < last):
            last = rows[-1].first_position
    removed = 0
    messages: set[tuple[int, str]] = set()
    for pipeline, source, rows in pages:
        for row in rows:
            if last is not None and row.first_position > last:
                break
            entries = _decode_entries(row.entries)
            own = [entry for entry in entries if is_person(source, entry.user_id, entry.anonymous_id)]
            removed += len(own)
            messages |= {(source, entry.message_id) for entry in own}
            if own and not dry:
                _empty_entries(connection, pipeline, row, entries, own)
    return Part(removed, last), sorted(messages)


def _empty_entries(
    connection: Connection, pipeline: int, row: Any, entries: list[LaneEntry], own: Sequence[LaneEntry]
) -> None:
    empty = [replace(entry, **_EMPTY_ENTRY) if entry in own else entry for entry in entries]
    table = tables.lane_chunks
    changed = update(table).where(table.c.pipeline == pipeline, table.c.first_position == row.first_position)
    connection.execute(changed.values(entries=_encode(empty)))
    documents = {entry.document for entry in own} - {NO_DOCUMENT}
    if row.body and documents:
        _empty_documents(connection, row.body, documents)


def _empty_documents(connection: Connection, body: int, indexes: Iterable[int]) -> None:
    table = tables.lane_bodies
    packed = connection.scalar(select(table.c.documents).where(table.c.id == body))
    if packed is None:
        return
    documents = _decode_documents(zlib.decompress(packed))
    for index in indexes:
        documents[index] = b"{}"
    packed = zlib.compress(_encode(documents), 1)
    connection.execute(update(table).where(table.c.id == body).values(documents=packed))


# --- Notes --------------------------------------------------------------------------------------------------------


def read_note(connection: Connection, owner: str) -> bytes | None:
    """Return the note of an erasure in progress; None if there is none."""
    return ResolutionRows(connection).note(owner)


def note_owners(connection: Connection, prefix: str) -> list[str]:
    """Return the owners of notes that begin with this text."""
    owner = tables.checkpoints.c.owner
    return list(connection.scalars(select(owner).where(owner.startswith(prefix, autoescape=True)).order_by(owner)))


def write_note(connection: Connection, owner: str, note: bytes) -> None:
    """Store the note of an erasure, in the transaction of what it tells."""
    ResolutionRows(connection).set_note(owner, note)


def remove_note(connection: Connection, owner: str) -> None:
    """Delete the note of an erasure."""
    bulk.remove(connection, (tables.checkpoints.c.owner,), [(owner,)])


# --- Everything else ----------------------------------------------------------------------------------------------


def _names(subject: Subject) -> list[IdentityName]:
    return [
        IdentityName(name.connection, name.id, name.is_anonymous)
        for name in subject.names
        if name.connection != ANY_CONNECTION
    ]


def _storable(connection: Connection, keys: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the keys that the database can store: PostgreSQL has no NUL in texts."""
    if connection.dialect.name == "sqlite":
        return keys
    return [key for key in keys if "\0" not in key[1]]


def _remove_rows(connection: Connection, column: "Column[Any]", values: Collection[int], *, dry: bool) -> int:
    keys = [(value,) for value in sorted(values) if value]
    if dry:
        return len(bulk.lookup(connection, (column,), (column,), keys))
    return bulk.remove(connection, (column,), keys)


_EMPTY_ENTRY: Final[dict[str, Any]] = {
    "user_id": None,
    "anonymous_id": None,
    "previous_id": None,
    "is_observed": False,
    "document": NO_DOCUMENT,
    "claims": False,
}
_decode_ids: Final = msgspec.json.Decoder(list[str]).decode
_decode_entries: Final = msgspec.msgpack.Decoder(list[LaneEntry]).decode
_decode_documents: Final = msgspec.msgpack.Decoder(list[bytes]).decode
_encode: Final = msgspec.msgpack.Encoder().encode
