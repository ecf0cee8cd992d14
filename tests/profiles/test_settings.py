"""The digest changes with everything on which profiles depend, and with nothing else."""

from typing import Any

import pytest
from msgspec.structs import replace

from headwater.catalog.profiles import Identifier, ProfileSchema, Rename, ResolutionSettings
from headwater.profiles.settings import digest
from headwater.schemas import Property, Schema, StringType

SETTINGS = ResolutionSettings(identifiers=(Identifier(path="email"), Identifier(path="phone")))
SCHEMA = ProfileSchema(schema=Schema((Property("email", StringType(), read_optional=True),)), primary_sources={"a": 1})
LONGER = Schema((*SCHEMA.schema.properties, Property("phone", StringType(), read_optional=True)))


@pytest.mark.parametrize(
    ("settings", "schema", "is_equal"),
    [
        (SETTINGS, SCHEMA, True),
        (replace(SETTINGS, run_on_batch_import=False), SCHEMA, True),
        (SETTINGS, replace(SCHEMA, renames=(Rename(old="a", new=None),)), True),
        (replace(SETTINGS, identifiers=SETTINGS.identifiers[::-1]), SCHEMA, False),
        (replace(SETTINGS, identifiers=SETTINGS.identifiers[:1]), SCHEMA, False),
        (SETTINGS, replace(SCHEMA, version=2), False),
        (SETTINGS, replace(SCHEMA, primary_sources={"a": 2}), False),
        (SETTINGS, replace(SCHEMA, schema=LONGER), False),
        (SETTINGS, None, False),
    ],
)
def test_the_digest_depends_on(settings: ResolutionSettings, schema: ProfileSchema | None, is_equal: bool) -> None:
    assert (digest(settings, schema) == digest(SETTINGS, SCHEMA)) == is_equal


@pytest.mark.parametrize(
    "guard",
    [
        {"blocked_values": ("x",)},
        {"blocked_presets": ("EmptyWords",)},
        {"max_identities": 5},
        {"max_values": 5},
        {"allows_blank": True},
    ],
)
def test_the_digest_depends_on_every_guard(guard: dict[str, Any]) -> None:
    first, second = SETTINGS.identifiers
    assert digest(replace(SETTINGS, identifiers=(replace(first, **guard), second)), SCHEMA) != digest(SETTINGS, SCHEMA)
