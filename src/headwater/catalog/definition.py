"""What a pipeline does, as it was given: kept as one JSON document, because nothing searches inside it.

Schemas and filters stand here as their canonical JSON text; the rooms that know them read them where they are used.
"""

from typing import Any, cast

import msgspec

from headwater.transforms.functions.contract import Function, Language


class Matching(msgspec.Struct, frozen=True):
    """The property of a profile, and the property of an application's user, whose equality makes them the same."""

    input: str
    output: str


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A transformation that is a function; paths are those of the properties that it gets and may give."""

    language: str
    source: str
    preserve_json: bool = False
    in_paths: tuple[str, ...] = ()
    out_paths: tuple[str, ...] = ()

    def function(self, *, owner: str) -> Function:
        """The function that this describes, as `owner`'s. Raises BadRequest when it breaks a rule."""
        return Function(
            owner=owner,
            language=cast(Language, self.language),  # the function refuses any other
            source=self.source,
            preserve_json=self.preserve_json,
            in_paths=self.in_paths,
            out_paths=self.out_paths,
        )


class TransformationDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Either a mapping, from output paths to expressions, or a function."""

    mapping: dict[str, str] | None = None
    function: FunctionDefinition | None = None


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The members that not every pipeline has; "" , None and false stand for those that were not given."""

    filter: str | None = None
    in_schema: str | None = None
    out_schema: str | None = None
    transformation: TransformationDefinition | None = None
    query: str = ""
    format: str = ""
    path: str = ""
    sheet: str = ""
    compression: str = ""
    format_settings: dict[str, Any] | None = None
    order_by: str = ""
    user_id_column: str = ""
    updated_at_column: str = ""
    updated_at_format: str = ""
    incremental: bool = False
    export_mode: str = ""
    matching: Matching | None = None
    update_on_duplicates: bool = False
    table_name: str = ""
    table_key: str = ""


encode_definition = msgspec.json.Encoder().encode
decode_definition = msgspec.json.Decoder(Definition).decode
