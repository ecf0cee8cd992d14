"""Adds every service of the protos to the server."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc import aio

from headwater.api.errors import ErrorBody
from headwater.api.ingest_http import Router
from headwater.api.peers import ALONE, Peers
from headwater.api.services import client, native_events, system, track
from headwater.api.services.api_keys import ApiKeyServicer
from headwater.api.services.applications import ApplicationRestServicer, ApplicationServicer, Previewer
from headwater.api.services.connections import ConnectionRestServicer, ConnectionServicer
from headwater.api.services.connectors import ConnectorServicer
from headwater.api.services.databases import DatabaseRestServicer, DatabaseServicer
from headwater.api.services.deliveries import DeliveryRestServicer, DeliveryServicer
from headwater.api.services.devices import DeviceServicer
from headwater.api.services.erasures import ErasureRestServicer, ErasureServicer
from headwater.api.services.events import EventReader, EventRestServicer, EventServicer
from headwater.api.services.explanations import Explainer
from headwater.api.services.exports import PersonExporter
from headwater.api.services.files import FileRestServicer, FileServicer
from headwater.api.services.filters import FilterRestServicer, FilterServicer
from headwater.api.services.identities import IdentityServicer
from headwater.api.services.identity_resolution import IdentityResolutionServicer
from headwater.api.services.operations import OperationServicer
from headwater.api.services.pipelinecounts import PipelineCountReader, PipelineRestServicer
from headwater.api.services.pipelines import PipelineServicer
from headwater.api.services.profiles import ProfileLists, ProfileRestServicer, ProfileServicer
from headwater.api.services.schemas import SchemaServicer
from headwater.api.services.transformations import TransformationRestServicer, TransformationServicer
from headwater.api.services.trials import PipelineTrials
from headwater.api.services.watching import EventObserver
from headwater.api.services.workspaces import WorkspaceServicer
from headwater.base.clock import Clock
from headwater.base.computing import Computing
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.connectors.environment import DEFAULT_ENVIRONMENT, ConnectorEnvironment
from headwater.intake import Intake
from headwater.log import EventLog
from headwater.management.blocking import BlockingCalls
from headwater.management.databases import DatabaseCalls
from headwater.management.files import FileViewer
from headwater.management.quotas import DEFAULT_QUOTAS, Quotas
from headwater.management.settings_checks import SettingsChecks
from headwater.observe.outcomes import OutcomeFeed
from headwater.observe.trace import Tracer
from headwater.observe.watching import Observers, make_observers
from headwater.rest.v1 import applications_pb2 as rest_applications
from headwater.rest.v1 import applications_pb2_grpc as rest_applications_grpc
from headwater.rest.v1 import (
    client_pb2,
    client_pb2_grpc,
    native_events_pb2,
    native_events_pb2_grpc,
    track_pb2,
    track_pb2_grpc,
)
from headwater.rest.v1 import connections_pb2 as rest_connections
from headwater.rest.v1 import connections_pb2_grpc as rest_connections_grpc
from headwater.rest.v1 import databases_pb2 as rest_databases
from headwater.rest.v1 import databases_pb2_grpc as rest_databases_grpc
from headwater.rest.v1 import deliveries_pb2 as rest_deliveries
from headwater.rest.v1 import deliveries_pb2_grpc as rest_deliveries_grpc
from headwater.rest.v1 import erasures_pb2 as rest_erasures
from headwater.rest.v1 import erasures_pb2_grpc as rest_erasures_grpc
from headwater.rest.v1 import events_pb2 as rest_events
from headwater.rest.v1 import events_pb2_grpc as rest_events_grpc
from headwater.rest.v1 import files_pb2 as rest_files
from headwater.rest.v1 import files_pb2_grpc as rest_files_grpc
from headwater.rest.v1 import filters_pb2 as rest_filters
from headwater.rest.v1 import filters_pb2_grpc as rest_filters_grpc
from headwater.rest.v1 import pipelines_pb2 as rest_pipelines
from headwater.rest.v1 import pipelines_pb2_grpc as rest_pipelines_grpc
from headwater.rest.v1 import profiles_pb2 as rest_profiles
from headwater.rest.v1 import profiles_pb2_grpc as rest_profiles_grpc
from headwater.rest.v1 import system_pb2 as rest_system
from headwater.rest.v1 import system_pb2_grpc as rest_system_grpc
from headwater.rest.v1 import transformations_pb2 as rest_transformations
from headwater.rest.v1 import transformations_pb2_grpc as rest_transformations_grpc
from headwater.state import StateStore
from headwater.state.deliveries import DeliveryStore
from headwater.state.lanestore import LaneStore
from headwater.state.operations import OperationStore
from headwater.state.runs import RunStore
from headwater.transforms.functions import Runner
from headwater.v1 import (
    api_keys_pb2,
    api_keys_pb2_grpc,
    applications_pb2,
    applications_pb2_grpc,
    connections_pb2,
    connections_pb2_grpc,
    connectors_pb2,
    connectors_pb2_grpc,
    databases_pb2,
    databases_pb2_grpc,
    deliveries_pb2,
    deliveries_pb2_grpc,
    devices_pb2,
    devices_pb2_grpc,
    erasures_pb2,
    erasures_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    filters_pb2,
    filters_pb2_grpc,
    identities_pb2,
    identities_pb2_grpc,
    identity_resolution_pb2,
    identity_resolution_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    pipelines_pb2,
    pipelines_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    schemas_pb2,
    schemas_pb2_grpc,
    system_pb2,
    system_pb2_grpc,
    transformations_pb2,
    transformations_pb2_grpc,
    workspaces_pb2,
    workspaces_pb2_grpc,
)
from headwater.warehouse import Warehouse

ERROR_BODIES: Final[dict[str, ErrorBody]] = {
    track.SERVICE: track.error_body,
    client.SERVICE: client.error_body,
}
"""The error bodies of the services whose protocol prescribes one."""

LENIENT_SERVICES: Final = frozenset({track.SERVICE, client.SERVICE, native_events.SERVICE, *system.SERVICES})
"""The services that ignore unknown query parameters: intake, and the calls of health checks."""

Add = Callable[[Any, aio.Server], None]
"""A generated function that adds a servicer to a server."""


@dataclass(frozen=True)
class Services:
    """The dependencies of the servicers."""

    catalog: Catalog
    intake: Intake
    state: StateStore
    warehouse: Warehouse
    functions: Runner
    log: EventLog
    lanes: LaneStore
    clock: Clock
    deliveries: DeliveryStore
    operations: OperationStore
    runs: RunStore
    computing: Computing = field(default_factory=Computing)
    quotas: Quotas = DEFAULT_QUOTAS
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT
    calls: BlockingCalls = field(default_factory=BlockingCalls)
    """The threads of calls to databases, and of checks of settings."""
    file_calls: BlockingCalls = field(default_factory=lambda: BlockingCalls(max_calls=8, max_workspace_calls=2))
    """The threads that look at files. They compute, so there are few of them."""
    allowed_redirect_uris: tuple[str, ...] = ()
    """The redirect URIs that authorizations may use; empty means any."""
    observers: Observers | None = None
    """The listeners and watchers; None: those of the log, without outcomes of deliveries."""
    peers: Peers = ALONE
    descriptors: bytes = b""
    """The serialized descriptor set of the API, as the gateway has it."""

    def observer(self) -> EventObserver:
        """Return the part of the event services that listens and watches."""
        observers = self.observers or make_observers(self.log, Identifiers(), OutcomeFeed())
        return EventObserver(self.catalog, self.computing, observers, self.peers)


@dataclass(frozen=True)
class Registration:
    """A service and the servicer that implements it."""

    service: ServiceDescriptor
    servicer: Any
    add: Add


def registrations(parts: Services) -> list[Registration]:
    """Return all services."""
    observer = parts.observer()
    return [*_typed(parts, observer), *_rest(parts, observer)]


def register(server: aio.Server, parts: Services) -> None:
    """Add all services to `server`, before it starts."""
    for each in registrations(parts):
        each.add(each.servicer, server)


def ingest_router(parts: Services, metrics: Metrics = NO_METRICS) -> Router:
    """Return the routes of the services that accept events as SDKs send them."""
    router = Router(metrics)
    router.add(track.SERVICE, track.TrackServicer(parts.catalog, parts.intake, parts.state).handlers, track.error_body)
    router.add(native_events.SERVICE, native_events.NativeEventServicer(parts.catalog, parts.intake).handlers)
    router.add(client.SERVICE, client.ClientServicer(parts.intake).handlers, client.error_body)
    return router


def _previewer(parts: Services) -> Previewer:
    return Previewer(parts.catalog, parts.functions, parts.computing, parts.environment)


def _file_viewer(parts: Services) -> FileViewer:
    return FileViewer(parts.catalog, parts.environment, parts.file_calls, parts.clock)


def _registration(file: FileDescriptor, servicer: object, add: Add) -> Registration:
    (service,) = file.services_by_name.values()
    return Registration(service, servicer, add)


def _typed(parts: Services, observer: EventObserver) -> list[Registration]:
    reader = EventReader(parts.catalog, parts.warehouse, parts.computing)
    tracer = Tracer(parts.state, parts.log, parts.deliveries, parts.computing)
    servicers: Iterable[tuple[FileDescriptor, object, Add]] = (
        (
            api_keys_pb2.DESCRIPTOR,
            ApiKeyServicer(parts.catalog, parts.quotas),
            api_keys_pb2_grpc.add_ApiKeyServiceServicer_to_server,
        ),
        (
            applications_pb2.DESCRIPTOR,
            ApplicationServicer(parts.catalog, parts.environment, _previewer(parts)),
            applications_pb2_grpc.add_ApplicationServiceServicer_to_server,
        ),
        (
            connections_pb2.DESCRIPTOR,
            ConnectionServicer(
                parts.catalog,
                parts.state,
                parts.computing,
                parts.quotas,
                parts.environment,
                parts.runs,
                SettingsChecks(parts.environment, parts.calls),
                parts.allowed_redirect_uris,
            ),
            connections_pb2_grpc.add_ConnectionServiceServicer_to_server,
        ),
        (
            connectors_pb2.DESCRIPTOR,
            ConnectorServicer(parts.catalog, parts.environment),
            connectors_pb2_grpc.add_ConnectorServiceServicer_to_server,
        ),
        (
            databases_pb2.DESCRIPTOR,
            DatabaseServicer(parts.catalog, _databases(parts)),
            databases_pb2_grpc.add_DatabaseServiceServicer_to_server,
        ),
        (
            deliveries_pb2.DESCRIPTOR,
            DeliveryServicer(parts.catalog, parts.deliveries),
            deliveries_pb2_grpc.add_DeliveryServiceServicer_to_server,
        ),
        (
            devices_pb2.DESCRIPTOR,
            DeviceServicer(parts.catalog, parts.state),
            devices_pb2_grpc.add_DeviceServiceServicer_to_server,
        ),
        (
            erasures_pb2.DESCRIPTOR,
            ErasureServicer(parts.catalog, parts.operations, parts.state, _exporter(parts)),
            erasures_pb2_grpc.add_ErasureServiceServicer_to_server,
        ),
        (
            events_pb2.DESCRIPTOR,
            EventServicer(parts.catalog, parts.intake, parts.state, reader, tracer, observer),
            events_pb2_grpc.add_EventServiceServicer_to_server,
        ),
        (
            files_pb2.DESCRIPTOR,
            FileServicer(parts.catalog, _file_viewer(parts)),
            files_pb2_grpc.add_FileServiceServicer_to_server,
        ),
        (
            filters_pb2.DESCRIPTOR,
            FilterServicer(parts.catalog, parts.computing),
            filters_pb2_grpc.add_FilterServiceServicer_to_server,
        ),
        (
            identities_pb2.DESCRIPTOR,
            IdentityServicer(parts.catalog, parts.state),
            identities_pb2_grpc.add_IdentityServiceServicer_to_server,
        ),
        (
            identity_resolution_pb2.DESCRIPTOR,
            IdentityResolutionServicer(parts.catalog, parts.state, parts.operations),
            identity_resolution_pb2_grpc.add_IdentityResolutionServiceServicer_to_server,
        ),
        (
            operations_pb2.DESCRIPTOR,
            OperationServicer(
                parts.catalog,
                parts.operations,
                parts.deliveries,
                parts.warehouse,
                parts.clock,
                parts.computing,
            ),
            operations_pb2_grpc.add_OperationServiceServicer_to_server,
        ),
        (
            pipelines_pb2.DESCRIPTOR,
            PipelineServicer(
                parts.catalog,
                parts.functions,
                parts.state,
                parts.lanes,
                parts.clock,
                parts.computing,
                parts.quotas,
                parts.environment,
                PipelineTrials(
                    parts.catalog,
                    parts.warehouse,
                    parts.functions,
                    parts.clock,
                    parts.computing,
                    parts.environment,
                ),
                _counts(parts),
                parts.runs,
            ),
            pipelines_pb2_grpc.add_PipelineServiceServicer_to_server,
        ),
        (
            profiles_pb2.DESCRIPTOR,
            ProfileServicer(
                parts.catalog, parts.state, parts.operations, parts.computing, _profile_lists(parts), _explainer(parts)
            ),
            profiles_pb2_grpc.add_ProfileServiceServicer_to_server,
        ),
        (
            schemas_pb2.DESCRIPTOR,
            SchemaServicer(parts.catalog),
            schemas_pb2_grpc.add_SchemaServiceServicer_to_server,
        ),
        (
            system_pb2.DESCRIPTOR,
            system.SystemServicer(),
            system_pb2_grpc.add_SystemServiceServicer_to_server,
        ),
        (
            transformations_pb2.DESCRIPTOR,
            TransformationServicer(parts.catalog, parts.functions, parts.computing),
            transformations_pb2_grpc.add_TransformationServiceServicer_to_server,
        ),
        (
            workspaces_pb2.DESCRIPTOR,
            WorkspaceServicer(parts.catalog, parts.computing),
            workspaces_pb2_grpc.add_WorkspaceServiceServicer_to_server,
        ),
    )
    return [_registration(*each) for each in servicers]


def _profile_lists(parts: Services) -> ProfileLists:
    return ProfileLists(parts.catalog, parts.state.profiles, parts.warehouse, parts.computing)


def _explainer(parts: Services) -> Explainer:
    return Explainer(parts.catalog, parts.state.profiles, parts.computing)


def _exporter(parts: Services) -> PersonExporter:
    return PersonExporter(parts.catalog, parts.state, parts.warehouse)


def _databases(parts: Services) -> DatabaseCalls:
    return DatabaseCalls(parts.catalog, parts.environment, parts.calls)


def _counts(parts: Services) -> PipelineCountReader:
    return PipelineCountReader(parts.catalog, parts.state, parts.lanes, parts.clock)


def _rest(parts: Services, observer: EventObserver) -> list[Registration]:
    """Return the services with raw JSON."""
    servicers: Iterable[tuple[FileDescriptor, object, Add]] = (
        (
            rest_applications.DESCRIPTOR,
            ApplicationRestServicer(parts.catalog, parts.environment, _previewer(parts)),
            rest_applications_grpc.add_ApplicationServiceServicer_to_server,
        ),
        (
            client_pb2.DESCRIPTOR,
            client.ClientServicer(parts.intake),
            client_pb2_grpc.add_ClientServiceServicer_to_server,
        ),
        (
            rest_connections.DESCRIPTOR,
            ConnectionRestServicer(parts.catalog, parts.computing, parts.runs),
            rest_connections_grpc.add_ConnectionServiceServicer_to_server,
        ),
        (
            rest_databases.DESCRIPTOR,
            DatabaseRestServicer(parts.catalog, _databases(parts)),
            rest_databases_grpc.add_DatabaseServiceServicer_to_server,
        ),
        (
            rest_deliveries.DESCRIPTOR,
            DeliveryRestServicer(parts.catalog, parts.deliveries),
            rest_deliveries_grpc.add_DeliveryServiceServicer_to_server,
        ),
        (
            rest_erasures.DESCRIPTOR,
            ErasureRestServicer(_exporter(parts)),
            rest_erasures_grpc.add_ErasureServiceServicer_to_server,
        ),
        (
            rest_events.DESCRIPTOR,
            EventRestServicer(EventReader(parts.catalog, parts.warehouse, parts.computing), observer),
            rest_events_grpc.add_EventServiceServicer_to_server,
        ),
        (
            rest_files.DESCRIPTOR,
            FileRestServicer(parts.catalog, _file_viewer(parts)),
            rest_files_grpc.add_FileServiceServicer_to_server,
        ),
        (
            rest_filters.DESCRIPTOR,
            FilterRestServicer(parts.catalog, parts.computing),
            rest_filters_grpc.add_FilterServiceServicer_to_server,
        ),
        (
            native_events_pb2.DESCRIPTOR,
            native_events.NativeEventServicer(parts.catalog, parts.intake),
            native_events_pb2_grpc.add_NativeEventServiceServicer_to_server,
        ),
        (
            rest_pipelines.DESCRIPTOR,
            PipelineRestServicer(_counts(parts)),
            rest_pipelines_grpc.add_PipelineServiceServicer_to_server,
        ),
        (
            rest_profiles.DESCRIPTOR,
            ProfileRestServicer(_profile_lists(parts), _explainer(parts)),
            rest_profiles_grpc.add_ProfileServiceServicer_to_server,
        ),
        (
            rest_system.DESCRIPTOR,
            system.SystemRestServicer(parts.descriptors),
            rest_system_grpc.add_SystemServiceServicer_to_server,
        ),
        (
            track_pb2.DESCRIPTOR,
            track.TrackServicer(parts.catalog, parts.intake, parts.state),
            track_pb2_grpc.add_TrackServiceServicer_to_server,
        ),
        (
            rest_transformations.DESCRIPTOR,
            TransformationRestServicer(parts.catalog, parts.functions, parts.computing),
            rest_transformations_grpc.add_TransformationServiceServicer_to_server,
        ),
    )
    return [_registration(*each) for each in servicers]
