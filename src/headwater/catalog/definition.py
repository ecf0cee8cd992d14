"""The definition of a pipeline as it was given, kept as one JSON document because no query searches it.

Schemas and filters are kept as canonical JSON text. The packages that own them parse them where they are used.
"""

from typing import Any, cast

import msgspec

from headwater.transforms.functions.contract import Function, Language


class Matching(msgspec.Struct, frozen=True):
    """The profile property and the application's user property whose equality identifies the same person."""

    input: str
    output: str


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A transformation by a function. Paths name the properties that it receives and may return."""

    language: str
    source: str
    preserve_json: bool = False
    in_paths: tuple[str, ...] = ()
    out_paths: tuple[str, ...] = ()

    def function(self, *, owner: str) -> Function:
        """Return the function with this definition, owned by `owner`. Raises BadRequest if it breaks a rule."""
        return Function(
            owner=owner,
            language=cast(Language, self.language),  # the function rejects any other
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
    """Members that only some pipelines have; "", None and false stand for members that were not given."""

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
