"""Starts runs of batch pipelines by request."""

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Catalog
from headwater.management.lookup import find_connection, find_pipeline
from headwater.management.pipelines import find_kind
from headwater.runs.scheduling import make_request
from headwater.state.runs import Run, RunStore


async def run_pipeline(
    catalog: Catalog,
    runs: RunStore,
    workspace: int,
    id_: int,
    *,
    incremental: bool | None = None,
    full: bool = False,
) -> Run:
    """Create a run of a pipeline, which a scheduler starts.

    `incremental` is None for the setting of the pipeline. Raises BadRequest, NotFound, and Unprocessable with
    CannotRunIncrementally, PipelineDisabled or RunInProgress.
    """
    pipeline = find_pipeline(catalog, workspace, id_)
    connection = find_connection(catalog, workspace, pipeline.connection)
    connector = catalog.connectors[connection.connector]
    if pipeline.target != "User":
        raise BadRequest(f"pipeline {id_} with target Event cannot be run", field="id")
    kind = find_kind(connection.role, connector.type, pipeline.target)
    if kind is None or not kind.batch:
        raise BadRequest(f"pipelines of {connector.type} connections cannot be run", field="id")
    if incremental is not None and connection.role == "Destination":
        raise BadRequest("incremental cannot be provided for destination pipelines", field="incremental")
    if full and connection.role == "Source":
        raise BadRequest("full cannot be provided for source pipelines: use incremental", field="full")
    needs_column = connector.type in ("Database", "FileStorage")
    if incremental and needs_column and not pipeline.definition.updated_at_column:
        raise Unprocessable("CannotRunIncrementally", f"pipeline {id_} has no updatedAtColumn", field="incremental")
    if not pipeline.enabled:
        raise Unprocessable("PipelineDisabled", f"pipeline {id_} is disabled")
    return await runs.create(make_request(pipeline, connection, incremental=incremental, full=full))
