"""The requests to create and update pipelines."""

import msgspec

from headwater.catalog import Definition
from headwater.filters import Filter
from headwater.schemas import Schema


class CreatePipeline(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a create request. `definition` has the remaining members, without filter and schemas."""

    connection: int
    target: str
    name: str
    enabled: bool = False
    event_type: str = ""
    filter: Filter | None = None
    in_schema: Schema | None = None
    out_schema: Schema | None = None
    definition: Definition = Definition()


class UpdatePipeline(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an update request. It replaces the pipeline: absent members get their defaults, and `enabled`
    false."""

    name: str
    enabled: bool = False
    filter: Filter | None = None
    in_schema: Schema | None = None
    out_schema: Schema | None = None
    definition: Definition = Definition()
