"""Quotas of a workspace. They are checked inside the change that adds an object, so that concurrent changes cannot
exceed them together."""

import asyncio

import msgspec

from headwater.base.errors import Reason, Unprocessable
from headwater.catalog import Catalog, Connection, Definition, Pipeline


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """The quotas of each workspace. The settings HEADWATER_MAX_… set them.

    Every check raises Unprocessable with the code that it names.
    """

    connections: int = 1_000
    pipelines: int = 2_000
    api_keys: int = 1_000
    """Maximum API keys restricted to the workspace. All keys without a restriction share another quota of this size."""
    definition_bytes: int = 64 << 20
    """Maximum size of the definitions of all pipelines: schemas, filters, mappings, functions."""
    connection_definition_bytes: int = 8 << 20
    """Maximum size of the definitions of the pipelines of one connection, which are shown together."""

    async def measure(self, catalog: Catalog, workspace: int) -> None:
        """Prepare `check_pipeline`, outside of a change: measure the definitions that were not measured before."""
        for connection in catalog.connections(workspace):
            for pipeline in connection.pipelines:
                if _sizes.is_new(pipeline):
                    _sizes.of(pipeline)
                    await asyncio.sleep(0)

    def check_connection(self, catalog: Catalog, workspace: int) -> None:
        """Check that one more connection is allowed. Raises TooManyConnections."""
        if len(catalog.connections(workspace)) >= self.connections:
            raise _refusal("TooManyConnections", f"{self.connections} connections", "HEADWATER_MAX_CONNECTIONS")

    def check_api_key(self, catalog: Catalog, workspace: int | None) -> None:
        """Check that one more API key is allowed, for the workspace or without a restriction. Raises TooManyApiKeys."""
        if sum(key.workspace == workspace for key in catalog.api_keys()) >= self.api_keys:
            raise _refusal("TooManyApiKeys", f"{self.api_keys} API keys", "HEADWATER_MAX_KEYS")

    def check_pipeline(
        self, catalog: Catalog, connection: Connection, definition: Definition, *, instead_of: Pipeline | None = None
    ) -> None:
        """Check that one more pipeline is allowed, and the size of its definition. Raises TooManyPipelines,
        DefinitionsTooLarge.

        `instead_of` is the pipeline whose definition is replaced, if it is not a new pipeline.
        """
        size = definition_size(definition)
        saved = 0 if instead_of is None else _sizes.of(instead_of)
        if size <= saved:
            return  # a definition that became smaller is always allowed
        number, total, beside = 0, 0, 0
        for each in catalog.connections(connection.workspace):
            number += len(each.pipelines)
            used = sum(map(_sizes.of, each.pipelines))
            total += used
            if each.id == connection.id:
                beside = used
        if instead_of is None and number >= self.pipelines:
            raise _refusal("TooManyPipelines", f"{self.pipelines} pipelines", "HEADWATER_MAX_PIPELINES")
        if total - saved + size > self.definition_bytes:
            raise _refusal(
                "DefinitionsTooLarge",
                f"{self.definition_bytes} bytes of definitions in its pipelines",
                "HEADWATER_MAX_DEFINITION_BYTES",
            )
        if beside - saved + size > self.connection_definition_bytes:
            raise _refusal(
                "DefinitionsTooLarge",
                f"{self.connection_definition_bytes} bytes of definitions in the pipelines of one connection",
                "HEADWATER_MAX_CONNECTION_DEFINITION_BYTES",
            )


DEFAULT_QUOTAS = Quotas()


def definition_size(definition: Definition) -> int:
    """Return the approximate bytes of a definition: the characters of members without a small limit, and a constant."""
    size = 512 + len(definition.filter or "") + len(definition.in_schema or "") + len(definition.out_schema or "")
    transformation = definition.transformation
    if transformation is not None and transformation.mapping is not None:
        size += sum(len(path) + len(expression) + 6 for path, expression in transformation.mapping.items())
    if transformation is not None and transformation.function is not None:
        function = transformation.function
        size += len(function.source) + sum(map(len, function.in_paths)) + sum(map(len, function.out_paths))
    return size


def _refusal(code: Reason, what: str, setting: str) -> Unprocessable:
    return Unprocessable(code, f"a workspace can have at most {what} ({setting})")


class _Sizes:
    """The sizes of definitions, each measured once. A definition never changes, so the object is the cache key."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._known: dict[int, tuple[Definition, int]] = {}

    def is_new(self, pipeline: Pipeline) -> bool:
        known = self._known.get(pipeline.id)
        return known is None or known[0] is not pipeline.definition

    def of(self, pipeline: Pipeline) -> int:
        if self.is_new(pipeline):
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[pipeline.id] = pipeline.definition, definition_size(pipeline.definition)
        return self._known[pipeline.id][1]


_sizes = _Sizes()
