"""Puts every service of the protos on the server: those that are built, and the rest, whose calls answer 501."""

from dataclasses import dataclass, field
from typing import Final, cast

from grpc import aio

from headwater.api import client, native_events, system, track
from headwater.api.answers import ErrorBody
from headwater.api.applications import ApplicationServicer
from headwater.api.connections import ConnectionServicer
from headwater.api.connectors import ConnectorServicer
from headwater.api.devices import DeviceServicer
from headwater.api.events import EventServicer
from headwater.api.filters import FilterServicer
from headwater.api.identities import IdentityServicer
from headwater.api.keys import ApiKeyServicer
from headwater.api.native_events import NativeEventServicer
from headwater.api.openapi import BuiltCalls, served_document
from headwater.api.pipelines import PipelineServicer
from headwater.api.schemas import SchemaServicer
from headwater.api.system import SystemServicer
from headwater.api.transformations import TransformationServicer
from headwater.api.workspaces import WorkspaceServicer
from headwater.base.clock import Clock
from headwater.base.computing import Computing
from headwater.catalog import Catalog
from headwater.intake import Intake
from headwater.log import EventLog
from headwater.management.quotas import DEFAULT_QUOTAS, Quotas
from headwater.observe.trace import Tracer
from headwater.state import StateStore
from headwater.state.lanestore import LaneStore
from headwater.transforms.functions import Runner
from headwater.v1 import (
    api_keys_pb2_grpc,
    applications_pb2_grpc,
    client_pb2_grpc,
    connections_pb2_grpc,
    connectors_pb2_grpc,
    devices_pb2_grpc,
    events_pb2_grpc,
    filters_pb2_grpc,
    identities_pb2_grpc,
    identity_resolution_pb2_grpc,
    native_events_pb2_grpc,
    pipelines_pb2_grpc,
    profiles_pb2_grpc,
    schemas_pb2_grpc,
    system_pb2_grpc,
    track_pb2_grpc,
    transformations_pb2_grpc,
    workspaces_pb2_grpc,
)

ERROR_BODIES: Final[dict[str, ErrorBody]] = {
    track.SERVICE: track.error_body,
    client.SERVICE: client.error_body,
}
"""The services whose errors have a shape of their own."""

LENIENT_SERVICES: Final = frozenset({track.SERVICE, client.SERVICE, native_events.SERVICE, system.SERVICE})
"""The services that ignore unknown query parameters: intake, and the calls of health checks."""


@dataclass(frozen=True)
class Services:
    """What the servicers work with."""

    catalog: Catalog
    intake: Intake
    state: StateStore
    functions: Runner
    log: EventLog
    lanes: LaneStore
    clock: Clock
    computing: Computing = field(default_factory=Computing)
    quotas: Quotas = DEFAULT_QUOTAS


def register(server: aio.Server, parts: Services) -> None:
    """Add all services to `server`, before it starts."""
    calls = BuiltCalls(server)
    server = cast(aio.Server, calls)
    connections_pb2_grpc.add_ConnectionServiceServicer_to_server(
        ConnectionServicer(parts.catalog, parts.state, parts.computing, parts.quotas), server
    )
    connectors_pb2_grpc.add_ConnectorServiceServicer_to_server(ConnectorServicer(parts.catalog), server)
    applications_pb2_grpc.add_ApplicationServiceServicer_to_server(ApplicationServicer(parts.catalog), server)
    workspaces_pb2_grpc.add_WorkspaceServiceServicer_to_server(WorkspaceServicer(parts.catalog), server)
    api_keys_pb2_grpc.add_ApiKeyServiceServicer_to_server(ApiKeyServicer(parts.catalog, parts.quotas), server)
    pipelines = PipelineServicer(
        parts.catalog, parts.functions, parts.state, parts.lanes, parts.clock, parts.computing, parts.quotas
    )
    pipelines_pb2_grpc.add_PipelineServiceServicer_to_server(pipelines, server)
    identities_pb2_grpc.add_IdentityServiceServicer_to_server(IdentityServicer(parts.catalog, parts.state), server)
    devices_pb2_grpc.add_DeviceServiceServicer_to_server(DeviceServicer(parts.catalog, parts.state), server)
    events_pb2_grpc.add_EventServiceServicer_to_server(
        EventServicer(parts.catalog, parts.intake, parts.state, Tracer(parts.state, parts.log, parts.computing)),
        server,
    )
    register_protocols(server, parts)
    filters_pb2_grpc.add_FilterServiceServicer_to_server(FilterServicer(parts.catalog, parts.computing), server)
    schemas_pb2_grpc.add_SchemaServiceServicer_to_server(SchemaServicer(parts.catalog), server)
    transformations_pb2_grpc.add_TransformationServiceServicer_to_server(
        TransformationServicer(parts.catalog, parts.functions, parts.computing), server
    )
    _register_unbuilt(server)
    openapi = served_document(calls.unbuilt)
    system_pb2_grpc.add_SystemServiceServicer_to_server(SystemServicer(openapi), server)


def register_protocols(server: aio.Server, parts: Services) -> None:
    """Add the services that take events as SDKs send them."""
    track_pb2_grpc.add_TrackServiceServicer_to_server(
        track.TrackServicer(parts.catalog, parts.intake, parts.state), server
    )
    native_events_pb2_grpc.add_NativeEventServiceServicer_to_server(
        NativeEventServicer(parts.catalog, parts.intake), server
    )
    client_pb2_grpc.add_ClientServiceServicer_to_server(client.ClientServicer(parts.intake), server)


def _register_unbuilt(server: aio.Server) -> None:
    """Services without a single call that works yet; the generated servicers raise, and the interceptor answers 501."""
    identity_resolution_pb2_grpc.add_IdentityResolutionServiceServicer_to_server(
        identity_resolution_pb2_grpc.IdentityResolutionServiceServicer(), server
    )
    profiles_pb2_grpc.add_ProfileServiceServicer_to_server(profiles_pb2_grpc.ProfileServiceServicer(), server)
