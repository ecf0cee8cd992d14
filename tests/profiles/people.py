"""Short forms of identities and profiles for tests."""

import msgspec
from msgspec.structs import replace

from headwater.catalog.profiles import Identifier, ProfileSchema, ResolutionSettings
from headwater.profiles.incremental import MAX_REGION_IDENTITIES, resolve_changes
from headwater.profiles.settings import ResolutionContext
from headwater.schemas import Property, Schema, StringType
from headwater.state.profiles.model import IdentityName
from tests.profiles.memory import MemoryRows

SCHEMA = Schema(tuple(Property(name, StringType(), read_optional=True) for name in ("email", "phone", "name")))


class People:
    """Identities that are resolved as they arrive."""

    def __init__(
        self, *identifiers: Identifier | str, primary_sources: dict[str, int] | None = None, limit: int | None = None
    ) -> None:
        guards = tuple(Identifier(path=one) if isinstance(one, str) else one for one in identifiers)
        schema = ProfileSchema(schema=SCHEMA, primary_sources=primary_sources or {})
        self.context = ResolutionContext.compile(1, ResolutionSettings(identifiers=guards), schema)
        self.rows = MemoryRows()
        self.limit = MAX_REGION_IDENTITIES if limit is None else limit
        self.now = 0
        self.postponed: list[int] = []

    def see(
        self,
        id: str,
        *,
        connection: int = 1,
        pipeline: int = 1,
        is_anonymous: bool = False,
        at: int | None = None,
        **attributes: str | None,
    ) -> int:
        """Insert or change an identity. Return its id."""
        self.now += 1
        text = msgspec.json.encode(attributes).decode()
        name = IdentityName(connection, id, is_anonymous)
        change = self.rows.put(name, pipeline, text, self.now if at is None else at)
        self.postponed = resolve_changes(self.rows, self.context, [change], self.now, limit=self.limit)
        return change.id

    def forget(self, *ids: int) -> None:
        """Delete identities."""
        self.now += 1
        changes = [self.rows.delete(id) for id in ids]
        self.postponed = resolve_changes(self.rows, self.context, changes, self.now, limit=self.limit)

    def claim(self, *ids: int, user: int) -> None:
        """Let the identity of a user take the places of others."""
        self.now += 1
        changes = [replace(self.rows.delete(id), successor=user) for id in ids]
        self.postponed = resolve_changes(self.rows, self.context, changes, self.now, limit=self.limit)

    def profiles(self) -> list[list[int]]:
        """Return the identities of each profile."""
        found: dict[int, list[int]] = {}
        for identity, member in sorted(self.rows.member_rows.items()):
            found.setdefault(member.profile, []).append(identity)
        return sorted(found.values())

    def attributes(self, identity: int) -> dict[str, str]:
        """Return the attributes of the profile of an identity."""
        profile = self.rows.profile_rows[self.rows.member_rows[identity].profile]
        return msgspec.json.decode(profile.attributes, type=dict[str, str])

    def kpid(self, identity: int) -> bytes:
        return self.rows.profile_rows[self.rows.member_rows[identity].profile].kpid

    def answer(self, kpid: bytes) -> bytes | None:
        """Return the kpid of the profile that is returned for a kpid."""
        profile = self.rows.alias_rows[kpid].profile if kpid in self.rows.alias_rows else None
        for row in self.rows.profile_rows.values():
            if row.kpid == kpid or row.id == profile:
                return row.kpid
        return None
