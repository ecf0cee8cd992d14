"""Finds the object that the path of a request names: an invalid identifier is 400, an unknown one 404."""

from headwater.base.errors import NotFound
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.management.names import check_identifier


def find_connection(catalog: Catalog, workspace: int, id_: int, *, field: str = "id") -> Connection:
    """Return the connection, if it is in this workspace."""
    check_identifier(id_, "connection identifier", field=field)
    connection = catalog.connection(workspace, id_)
    if connection is None:
        raise NotFound(f"connection {id_} does not exist", field=field)
    return connection


def find_pipeline(catalog: Catalog, workspace: int, id_: int, *, field: str = "id") -> Pipeline:
    """Return the pipeline, if it is in this workspace."""
    check_identifier(id_, "pipeline identifier", field=field)
    pipeline = catalog.pipeline(workspace, id_)
    if pipeline is None:
        raise NotFound(f"pipeline {id_} does not exist", field=field)
    return pipeline
