"""Puts the members of an example to the rules, without a catalog."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Connection
from headwater.connectors.registry import CONNECTORS
from headwater.management.pipelines import find_kind
from headwater.management.pipelines.draft import Draft
from headwater.management.pipelines.rules import check
from tests.management.pipelines.examples import EXAMPLES, creation

LANGUAGES = ("JavaScript", "Python")


def passes(kind: str, members: dict[str, Any], languages: Collection[str] = LANGUAGES, name: str = "P") -> Draft:
    """Return the required members of the kind with these members in addition or instead; None removes one. Raises the
    errors of the rules."""
    example = EXAMPLES[kind]
    connector = CONNECTORS[example.connector]
    request = creation(kind, 1, {**example.least, **members}, name)
    found = find_kind(example.role, connector.type, example.target)
    assert found is not None
    connection = Connection(
        id=1,
        workspace=1,
        name="C",
        connector=connector.code,
        role=example.role,
        strategy=None,
        sending_mode=None,
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    draft = Draft(
        kind=found,
        target=example.target,
        connection=connection,
        connector=connector,
        event_type=request.event_type,
        name=request.name,
        definition=request.definition,
        filter=request.filter,
        in_schema=request.in_schema,
        out_schema=request.out_schema,
    )
    check(draft, CONNECTORS, languages)
    return draft


def fails(
    kind: str, members: dict[str, Any], languages: Collection[str] = LANGUAGES, name: str = "P"
) -> tuple[int, str, str | None]:
    """Return the error of the rules: status, code and the member, which the message names as well."""
    with pytest.raises(HeadwaterError) as caught:
        passes(kind, members, languages, name)
    return caught.value.status, caught.value.code, caught.value.field
