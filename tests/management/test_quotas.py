"""Quotas of a workspace hold under concurrent creation, and only for that workspace."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Catalog, Definition, TransformationDefinition
from headwater.management.api_keys import create_api_key
from headwater.management.bounds import MAX_EXPRESSION_CHARACTERS, MAX_EXPRESSIONS, check_expressions
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.pipelines import CreatePipeline, UpdatePipeline, create_pipeline, update_pipeline
from headwater.management.quotas import Quotas, definition_size
from headwater.schemas import parse_schema

EMAIL = parse_schema('{"kind":"object","properties":[{"name":"email","type":{"kind":"string"},"readOptional":true}]}')
SOURCE = CreateConnection(name="Website", role="Source", connector="http")


async def codes(*creations: Awaitable[Any]) -> list[str]:
    """Return the outcome of each: "" or the code of its error."""
    ended = await asyncio.gather(*creations, return_exceptions=True)
    assert all(isinstance(each, Unprocessable) for each in ended if isinstance(each, BaseException))
    return sorted(each.code if isinstance(each, Unprocessable) else "" for each in ended)


async def test_connections(catalog: Catalog, workspace: int, stranger: int) -> None:
    quotas = Quotas(connections=3)
    made = await codes(*(create_connection(catalog, workspace, SOURCE, quotas) for _ in range(8)))
    assert made == [""] * 3 + ["TooManyConnections"] * 5
    assert len(catalog.connections(workspace)) == 3
    await create_connection(catalog, stranger, SOURCE, quotas)
    with pytest.raises(Unprocessable, match=r"at most 3 connections \(HEADWATER_MAX_CONNECTIONS\)"):
        await create_connection(catalog, workspace, SOURCE, quotas)


async def test_api_keys(catalog: Catalog, workspace: int, stranger: int) -> None:
    caller = (await create_api_key(catalog, None, "CI", None)).key
    before = sum(key.workspace == workspace for key in catalog.api_keys())
    quotas = Quotas(api_keys=before + 2)
    made = await codes(*(create_api_key(catalog, caller, "x", workspace, quotas=quotas) for _ in range(5)))
    assert made == [""] * 2 + ["TooManyApiKeys"] * 3
    await create_api_key(catalog, caller, "x", stranger, quotas=Quotas(api_keys=before + 2))
    await create_api_key(catalog, None, "the operator's", workspace, quotas=quotas)


def pipeline(connection: int, expression: str = "traits.email") -> CreatePipeline:
    definition = Definition(transformation=TransformationDefinition(mapping={"email": expression}))
    return CreatePipeline(connection=connection, target="User", name="U", out_schema=EMAIL, definition=definition)


async def test_pipelines(catalog: Catalog, workspace: int, stranger: int) -> None:
    quotas = Quotas(pipelines=3)
    ids = [(await create_connection(catalog, workspace, SOURCE)).id for _ in range(2)]
    made = await codes(
        *(create_pipeline(catalog, workspace, pipeline(id_), quotas=quotas) for id_ in (*ids, *ids, *ids))
    )
    assert made == [""] * 3 + ["TooManyPipelines"] * 3
    theirs = await create_connection(catalog, stranger, SOURCE)
    await create_pipeline(catalog, stranger, pipeline(theirs.id), quotas=quotas)


@pytest.mark.parametrize("member", ["definition_bytes", "connection_definition_bytes"])
async def test_bytes_of_definitions(catalog: Catalog, workspace: int, member: str) -> None:
    connection = await create_connection(catalog, workspace, SOURCE)
    first = await create_pipeline(catalog, workspace, pipeline(connection.id))
    size = definition_size(first.definition)
    quotas = Quotas(**{member: 3 * size + 100})
    made = await codes(*(create_pipeline(catalog, workspace, pipeline(connection.id), quotas=quotas) for _ in range(5)))
    assert made == [""] * 2 + ["DefinitionsTooLarge"] * 3

    def longer(by: int) -> UpdatePipeline:
        asked = pipeline(connection.id, "traits.email " + "'" + "x" * by + "'")
        return UpdatePipeline(name="U", out_schema=EMAIL, definition=asked.definition)

    await update_pipeline(catalog, workspace, first.id, longer(80), quotas=quotas)
    with pytest.raises(Unprocessable) as refused:
        await update_pipeline(catalog, workspace, first.id, longer(120), quotas=quotas)
    assert refused.value.code == "DefinitionsTooLarge"
    # A workspace that is over a quota, since the setting was lowered, can still make a definition smaller.
    await update_pipeline(catalog, workspace, first.id, longer(1), quotas=Quotas(**{member: 1}))


async def test_a_connection_has_a_quota_of_its_own(catalog: Catalog, workspace: int) -> None:
    ids = [(await create_connection(catalog, workspace, SOURCE)).id for _ in range(2)]
    first = await create_pipeline(catalog, workspace, pipeline(ids[0]))
    quotas = Quotas(connection_definition_bytes=definition_size(first.definition))
    assert await codes(create_pipeline(catalog, workspace, pipeline(ids[0]), quotas=quotas)) == ["DefinitionsTooLarge"]
    assert await codes(create_pipeline(catalog, workspace, pipeline(ids[1]), quotas=quotas)) == [""]


def test_expressions_are_bounded_together() -> None:
    half = "x" * (MAX_EXPRESSION_CHARACTERS // 2)
    check_expressions([half, half], "expressions")
    with pytest.raises(BadRequest, match="the expressions of expressions must have at most 250000 characters") as error:
        check_expressions([half, half, "x"], "expressions")
    assert error.value.field == "expressions"
    check_expressions(["x"] * MAX_EXPRESSIONS, "expressions")
    with pytest.raises(BadRequest, match="at most 10000 expressions"):
        check_expressions(["x"] * (MAX_EXPRESSIONS + 1), "expressions")
