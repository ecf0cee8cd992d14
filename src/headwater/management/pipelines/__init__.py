"""Pipelines: what a connection does with the users and events that come through it.

There are nine kinds (`kinds`). Every rule about their members holds from the beginning (`rules`); which of them can run
is another question: one that cannot yet may be made, but not enabled.
"""

from headwater.management.pipelines.kinds import INCOMING_EVENT_SCHEMA, Kind, kind_of
from headwater.management.pipelines.operations import (
    create_pipeline,
    definition_of,
    delete_pipeline,
    get_pipeline,
    set_pipeline_schedule,
    set_pipeline_status,
    update_pipeline,
)
from headwater.management.pipelines.requests import CreatePipeline, UpdatePipeline

__all__ = [
    "INCOMING_EVENT_SCHEMA",
    "CreatePipeline",
    "Kind",
    "UpdatePipeline",
    "create_pipeline",
    "definition_of",
    "delete_pipeline",
    "get_pipeline",
    "kind_of",
    "set_pipeline_schedule",
    "set_pipeline_status",
    "update_pipeline",
]
