"""A pipeline with a function that does not load can be saved, but not enabled."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from headwater.catalog import Catalog
from headwater.management.pipelines import create_pipeline, set_pipeline_status, update_pipeline
from headwater.transforms.functions import Runner
from tests.management.pipelines.conftest import Connect
from tests.management.pipelines.examples import EXAMPLES, TEXT, creation, function, profile, update
from tests.management.unchanged import refused

GOOD = {
    "Python": "def transform(event):\n    return {'email': event.get('userId')}",
    "JavaScript": "const transform = (event) => ({email: event.userId})",
}
BAD = {
    "Python": ["def transform(event)\n    return {}", "def other(event):\n    return {}", "raise ValueError()"],
    "JavaScript": ["function transform(event) { return {", "const other = 5", "throw new Error('x')"],
}


@pytest.fixture
async def functions() -> AsyncIterator[Runner]:
    async with Runner(javascript=1, python=1) as runner:
        yield runner


def members(language: str, source: str) -> dict[str, Any]:
    transformation = function(language=language, source=source, in_paths=("userId",), out_paths=("email",))
    return {"outSchema": profile(email=TEXT), "transformation": transformation}


@pytest.mark.process
@pytest.mark.parametrize(("language", "source"), GOOD.items())
async def test_what_loads_can_be_enabled(
    catalog: Catalog, workspace: int, connect: Connect, functions: Runner, language: str, source: str
) -> None:
    connection = await connect(EXAMPLES["SU"])
    request = creation("SU", connection.id, members(language, source), enabled=True)
    pipeline = await create_pipeline(catalog, workspace, request, functions=functions)
    assert pipeline.enabled
    await set_pipeline_status(catalog, workspace, pipeline.id, enabled=False, functions=functions)
    assert (await set_pipeline_status(catalog, workspace, pipeline.id, enabled=True, functions=functions)).enabled


@pytest.mark.process
@pytest.mark.parametrize(
    ("language", "source"), [(name, source) for name, sources in BAD.items() for source in sources]
)
async def test_what_does_not_load_stays_disabled(
    catalog: Catalog, workspace: int, connect: Connect, functions: Runner, language: str, source: str
) -> None:
    connection = await connect(EXAMPLES["SU"])
    broken = members(language, source)
    async with refused(catalog, 422, "TransformationFailed", None):
        request = creation("SU", connection.id, broken, enabled=True)
        await create_pipeline(catalog, workspace, request, functions=functions)
    request = creation("SU", connection.id, broken)
    pipeline = await create_pipeline(catalog, workspace, request, functions=functions)
    async with refused(catalog, 422, "TransformationFailed", None):
        await set_pipeline_status(catalog, workspace, pipeline.id, enabled=True, functions=functions)
    async with refused(catalog, 422, "TransformationFailed", None):
        await update_pipeline(catalog, workspace, pipeline.id, update(broken, enabled=True), functions=functions)
    repaired = update(members(language, GOOD[language]), enabled=True)
    assert (await update_pipeline(catalog, workspace, pipeline.id, repaired, functions=functions)).enabled
