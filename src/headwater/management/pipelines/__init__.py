"""Pipelines: they process the users and events of a connection.

There are nine kinds (`kinds`). All rules about members apply from the start (`rules`). A pipeline whose connector has
no engine can be created, but not enabled.
"""

from headwater.management.pipelines.kinds import INCOMING_EVENT_SCHEMA, Kind, find_kind
from headwater.management.pipelines.operations import (
    DraftPipeline,
    build_definition,
    create_pipeline,
    delete_pipeline,
    draft_pipeline,
    get_pipeline,
    set_pipeline_schedule,
    set_pipeline_status,
    update_pipeline,
)
from headwater.management.pipelines.requests import CreatePipeline, UpdatePipeline
from headwater.management.pipelines.suggesting import suggest_events, suggest_pipeline, suggested_mapping

__all__ = [
    "INCOMING_EVENT_SCHEMA",
    "CreatePipeline",
    "DraftPipeline",
    "Kind",
    "UpdatePipeline",
    "build_definition",
    "create_pipeline",
    "delete_pipeline",
    "draft_pipeline",
    "find_kind",
    "get_pipeline",
    "set_pipeline_schedule",
    "set_pipeline_status",
    "suggest_events",
    "suggest_pipeline",
    "suggested_mapping",
    "update_pipeline",
]
