"""ConnectorService: the catalogue, the same for every workspace."""

from headwater.api.request import Context, require_caller
from headwater.base.errors import NotFound
from headwater.catalog import Catalog
from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.settings import FormField, describe
from headwater.v1 import connectors_pb2 as pb
from headwater.v1 import connectors_pb2_grpc


class ConnectorServicer(connectors_pb2_grpc.ConnectorServiceServicer):
    """Lists and shows connectors."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment) -> None:
        self._catalog = catalog
        self._environment = environment

    async def ListConnectors(self, request: pb.ListConnectorsRequest, context: Context) -> pb.ListConnectorsResponse:
        await require_caller(self._catalog, context)
        connectors = sorted(self._catalog.connectors.values(), key=lambda connector: connector.code)
        return pb.ListConnectorsResponse(
            connectors=[self._message(connector) for connector in connectors if self._is_listed(connector)]
        )

    async def GetConnector(self, request: pb.GetConnectorRequest, context: Context) -> pb.Connector:
        await require_caller(self._catalog, context)
        connector = self._catalog.connectors.get(request.code)
        if connector is None or not self._is_listed(connector):
            raise NotFound(f'connector "{request.code}" does not exist', field="code")
        return self._message(connector)

    def _is_listed(self, connector: Connector) -> bool:
        return not connector.is_sample or self._has_client(connector)

    def _has_client(self, connector: Connector) -> bool:
        return connector.code in self._environment.oauth_clients

    def _message(self, connector: Connector) -> pb.Connector:
        message = _message(connector)
        if connector.oauth is not None:
            message.available = connector.available and (connector.oauth.is_optional or self._has_client(connector))
            message.oauth.CopyFrom(
                pb.Connector.OAuth(
                    configured=self._has_client(connector),
                    disallow_loopback_ip=connector.oauth.disallow_loopback_ip,
                    disallow_localhost=connector.oauth.disallow_localhost,
                )
            )
        return message


def _message(connector: Connector) -> pb.Connector:
    message = pb.Connector(
        code=connector.code,
        label=connector.label,
        type=connector.type,
        categories=connector.categories,
        has_sheets=connector.has_sheets,
        file_extension=connector.file_extension,
        strategies=connector.strategies,
        available=connector.available,
        installed=connector.is_installed,
        install_command="" if connector.driver is None or connector.is_installed else connector.driver.install_command,
    )
    if connector.source is not None:
        message.as_source.CopyFrom(_as_source(connector.source))
    if connector.destination is not None:
        message.as_destination.CopyFrom(_as_destination(connector.destination))
    if connector.terms is not None:
        terms = connector.terms
        message.terms.CopyFrom(pb.Connector.Terms(user=terms.user, users=terms.users, user_id=terms.user_id))
    return message


def _as_source(source: Capabilities) -> pb.Connector.AsSource:
    return pb.Connector.AsSource(
        targets=source.targets,
        has_settings=source.settings is not None,
        sample_query=source.sample_query,
        webhooks_per="None",
        summary=source.summary,
        settings=_settings(source),
    )


def _as_destination(destination: Capabilities) -> pb.Connector.AsDestination:
    modes = destination.sending_modes
    return pb.Connector.AsDestination(
        targets=destination.targets,
        has_settings=destination.settings is not None,
        sending_mode=None if not modes else modes[0] if len(modes) == 1 else "ClientAndServer",
        summary=destination.summary,
        settings=_settings(destination),
    )


def _settings(capabilities: Capabilities) -> list[pb.SettingsField]:
    return [] if capabilities.settings is None else [_field(field) for field in describe(capabilities.settings)]


def _field(field: FormField) -> pb.SettingsField:
    message = pb.SettingsField(
        name=field.name,
        label=field.label,
        kind=field.kind,
        help=field.help,
        secret=field.secret,
        required=field.required,
        options=field.options,
        minimum=field.minimum,
        maximum=field.maximum,
        rule=field.rule,
        fields=[_field(each) for each in field.fields],
        one_of=field.one_of,
    )
    match field.default:
        case bool():
            message.default.bool_value = field.default
        case int():
            message.default.number_value = field.default
        case str():
            message.default.string_value = field.default
    return message
