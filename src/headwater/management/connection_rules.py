"""The rules of connections, one function each. `connections` calls them in the documented order.

All raise BadRequest, except for a reference in the body that does not exist and a connector without an engine: these
raise Unprocessable.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar, get_args

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Catalog
from headwater.connectors.connector import EVENT_SOURCE_TYPES, Connector, Role, SendingMode, Strategy
from headwater.connectors.settings import Settings
from headwater.management.names import check_identifier

_Value = TypeVar("_Value")

_ROLES: Final[Mapping[str, Role]] = {value: value for value in get_args(Role)}
_STRATEGIES: Final[Mapping[str, Strategy]] = {value: value for value in get_args(Strategy)}
_SENDING_MODES: Final[Mapping[str, SendingMode]] = {value: value for value in get_args(SendingMode)}


def parse_role(value: str) -> Role:
    if not value:
        raise BadRequest("role is required", field="role")
    return _check_choice(_ROLES, value, "role")


def parse_strategy(value: str | None) -> Strategy | None:
    return None if value is None else _check_choice(_STRATEGIES, value, "strategy")


def parse_sending_mode(value: str | None) -> SendingMode | None:
    return None if value is None else _check_choice(_SENDING_MODES, value, "sendingMode")


def _check_choice(choices: Mapping[str, _Value], value: str, field: str) -> _Value:
    if value not in choices:
        raise BadRequest(f"{field} is none of {', '.join(choices)}", field=field)
    return choices[value]


def find_connector(catalog: Catalog, code: str) -> Connector:
    """The connector that a request's body names."""
    connector = catalog.connectors.get(code)
    if connector is None:
        raise Unprocessable("ConnectorNotExist", f'connector "{code}" does not exist', field="connector")
    return connector


def check_type(connector: Connector) -> None:
    """Some connectors are documented, but have no connections."""
    if connector.type == "File":
        raise BadRequest("file formats have no connections: pipelines of file storages name them", field="connector")
    if connector.type == "MessageBroker":
        raise BadRequest("message brokers are not supported yet", field="connector")


def check_role(connector: Connector, role: Role) -> None:
    if connector.capabilities(role) is not None:
        return
    if role == "Destination" and connector.type in EVENT_SOURCE_TYPES:
        raise BadRequest(f"{connector.type} connections cannot be destinations", field="role")
    raise BadRequest(f"connector {connector.code} cannot be a {role.lower()}", field="role")


def check_linked_connections(
    catalog: Catalog, workspace: int, connector: Connector, role: Role, linked: Sequence[int]
) -> None:
    """Links join a source that events come from with a destination that they can be sent to, of one workspace."""
    if not linked:
        return
    if not connector.supports_events(role):
        raise BadRequest(
            f"connector {connector.code}, used as {role.lower()}, does not support events", field="linkedConnections"
        )
    opposite: Role = "Destination" if role == "Source" else "Source"
    for index, id_ in enumerate(linked):
        field = f"linkedConnections[{index}]"
        check_identifier(id_, "linked connection identifier", field=field)
        if id_ in linked[index + 1 :]:
            raise BadRequest(f"linked connection {id_} is repeated", field=field)
        other = catalog.connection(workspace, id_)
        if other is None:
            raise Unprocessable("LinkedConnectionNotExist", f"linked connection {id_} does not exist", field=field)
        others = catalog.connectors.get(other.connector)
        if others is None or not others.supports_events(opposite):
            raise BadRequest(f"linked connection {id_} does not support events as {opposite.lower()}", field=field)
        if other.role != opposite:
            raise BadRequest(f"linked connection {id_} is not a {opposite.lower()}", field=field)


def check_strategy(connector: Connector, role: Role, strategy: Strategy | None) -> None:
    if role == "Destination":
        if strategy is not None:
            raise BadRequest("destination connections cannot have a strategy", field="strategy")
    elif connector.strategies and strategy is None:
        raise BadRequest(f"connector {connector.code} requires a strategy", field="strategy")
    elif not connector.strategies and strategy is not None:
        raise BadRequest(f"connector {connector.code} does not support strategies", field="strategy")


def check_sending_mode(connector: Connector, role: Role, sending_mode: SendingMode | None) -> None:
    capabilities = connector.capabilities(role)
    supported = () if capabilities is None else capabilities.sending_modes
    if sending_mode is None:
        if supported:
            raise BadRequest(f"connector {connector.code} requires a sending mode", field="sendingMode")
    elif role == "Source":
        raise BadRequest("source connections cannot have a sending mode", field="sendingMode")
    elif not supported:
        raise BadRequest(f"connector {connector.code} does not support sending modes", field="sendingMode")
    elif sending_mode not in supported:
        raise BadRequest(
            f"connector {connector.code} does not support sending mode {sending_mode}", field="sendingMode"
        )


def check_auth_token(connector: Connector, auth_token: str) -> None:
    """An authorization token is given exactly where one is needed. `authorization` opens it."""
    if connector.oauth is None and auth_token:
        raise BadRequest(f"connector {connector.code} does not support authorization", field="authToken")
    if connector.oauth is not None and not connector.oauth.is_optional and not auth_token:
        raise BadRequest(f"authorization token is required by connector {connector.code}", field="authToken")


def read_settings(
    connector: Connector, role: Role, given: Mapping[str, object] | None, *, is_authorized: bool = False
) -> Settings | None:
    """Return the settings of a new connection, checked by the connector's declaration; None if none are given.

    A connection that `is_authorized` has an OAuth account, which stands for settings if OAuth is optional.
    """
    if is_authorized and connector.oauth is not None and connector.oauth.is_optional:
        check_account_or_settings(connector, given)
        return None
    if given is not None:
        return replace_settings(connector, role, given)
    declared = _declared_settings(connector, role)
    if declared is not None and declared.REQUIRED:
        raise BadRequest(
            f"settings must be provided because connector {connector.code} has {role.lower()} settings",
            field="settings",
        )
    return None


def check_account_or_settings(connector: Connector, given: Mapping[str, object] | None) -> None:
    """Raise BadRequest for settings of a connection with an OAuth account, if there is either one or the other."""
    if given is not None and connector.oauth is not None and connector.oauth.is_optional:
        raise BadRequest(
            f"settings cannot be provided because the connection of connector {connector.code} is authorized",
            field="settings",
        )


def replace_settings(connector: Connector, role: Role, given: Mapping[str, object]) -> Settings:
    """Return new settings of a connection. Raises Unprocessable with InvalidSettings too."""
    declared = _declared_settings(connector, role)
    if declared is None:
        raise BadRequest(
            f"settings cannot be provided because connector {connector.code} has no {role.lower()} settings",
            field="settings",
        )
    return declared.read(given)


def _declared_settings(connector: Connector, role: Role) -> type[Settings] | None:
    capabilities = connector.capabilities(role)
    return None if capabilities is None else capabilities.settings


def check_available(connector: Connector) -> None:
    """Reject a connector without an engine, or without its driver; this is the last rule."""
    if not connector.available:
        raise Unprocessable(
            "ConnectorNotAvailable",
            f'connections of connector "{connector.code}" cannot be made yet: this version has no engine for them',
            field="connector",
        )
    driver = connector.driver
    if driver is not None and not driver.is_installed:
        raise Unprocessable(
            "ConnectorNotAvailable",
            f'the driver of connector "{connector.code}" is not installed: {driver.install_command}',
            field="connector",
        )
