"""Checks that a pipeline of users fits the profile schema of its workspace."""

from typing import Final

from headwater.base.computing import Computing
from headwater.base.errors import Unprocessable
from headwater.catalog import Catalog, Connection, Definition, ProfileSchema
from headwater.connectors.connector import Role, Target
from headwater.profiles.alignment import find_misalignment, find_profile_schema

SMALL_SCHEMA_CHARACTERS: Final = 16_384
"""Size of the schema of a pipeline up to which it is checked on the event loop, in less than 20 ms."""


class AlignmentCheck:
    """The check of one definition. It is made before a change of the catalog, and confirmed inside it."""

    def __init__(self, catalog: Catalog, connection: Connection, target: Target, definition: Definition) -> None:
        self._catalog = catalog
        self._connection = connection
        self._target = target
        self._definition = definition
        self._checked: ProfileSchema | None = None

    async def run(self, computing: Computing | None) -> None:
        """Raise Unprocessable with SchemaNotAligned for a definition that does not fit the profile schema."""
        profiles = find_profile_schema(self._catalog, self._connection.workspace)
        if profiles is None or self._target != "User":
            return
        arguments = self._definition, self._connection.role, self._target, profiles
        size = len(self._definition.out_schema or "") + len(self._definition.in_schema or "")
        if computing is None or size <= SMALL_SCHEMA_CHARACTERS:
            _check(*arguments)
        else:
            await computing.run(f"workspace {self._connection.workspace}", _check, *arguments)
        self._checked = profiles

    def confirm(self) -> None:
        """Check again if the profile schema has changed since. Raises as `run` does."""
        profiles = find_profile_schema(self._catalog, self._connection.workspace)
        if profiles != self._checked:
            _check(self._definition, self._connection.role, self._target, profiles)


def _check(definition: Definition, role: Role, target: Target, profiles: ProfileSchema | None) -> None:
    found = find_misalignment(definition, role, target, profiles)
    if found is not None:
        member = "outSchema" if role == "Source" else "inSchema"
        raise Unprocessable(
            "SchemaNotAligned",
            f"{member} differs from the profile schema: {found.cause}",
            field=f"{member}.{found.path}",
        )
