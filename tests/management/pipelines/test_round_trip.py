"""A pipeline keeps the members of its creation, in every process and after every restart."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.catalog import Catalog
from headwater.catalog.definition import decode_definition, encode_definition
from headwater.management.pipelines import create_pipeline, get_pipeline, set_pipeline_schedule, update_pipeline
from headwater.schemas import parse_schema
from tests.examples import examples
from tests.management.pipelines.conftest import Connect, opened
from tests.management.pipelines.drafts import passes
from tests.management.pipelines.examples import EXAMPLES, creation, update
from tests.management.pipelines.strategies import pipelines


@settings(max_examples=examples(60), deadline=None)
@given(pipelines())
def test_generated_pipelines_are_kept_as_they_were_given(pipeline: tuple[str, dict[str, Any]]) -> None:
    kind, members = pipeline
    kept = passes(kind, members).definition
    assert decode_definition(encode_definition(kept)) == kept
    request = creation(kind, 1, members)
    for text, schema in ((kept.in_schema, request.in_schema), (kept.out_schema, request.out_schema)):
        assert (None if text is None else parse_schema(text)) == schema
    for member in ("transformation", "matching", "path", "query", "table_name", "sheet", "order_by"):
        assert getattr(kept, member) == getattr(request.definition, member)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=st.lists(pipelines(), min_size=1, max_size=8))
async def test_definitions_survive_a_restart(
    catalog: Catalog, url: str, workspace: int, connect: Connect, given_: list[tuple[str, dict[str, Any]]]
) -> None:
    made = []
    for kind, members in given_:
        connection = await connect(EXAMPLES[kind])
        pipeline = await create_pipeline(catalog, workspace, creation(kind, connection.id, members))
        assert await update_pipeline(catalog, workspace, pipeline.id, update(members)) == pipeline
        if EXAMPLES[kind].target == "User":
            pipeline = await set_pipeline_schedule(catalog, workspace, pipeline.id, "24h")
        made.append(pipeline)
    async with opened(url) as again:
        for pipeline in made:
            assert await get_pipeline(again, workspace, pipeline.id) == pipeline
            owner = again.connection(workspace, pipeline.connection)
            assert owner is not None and owner.pipelines == (pipeline,)
