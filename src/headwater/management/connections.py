"""Creates, reads, replaces and deletes connections. Checks run in the documented order; the first that fails is
returned.

Reading uses the current view of the catalog. API handlers refresh it first.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from headwater.base.errors import BadRequest
from headwater.catalog import Catalog, Change, Connection, OAuthAccount
from headwater.catalog.accounts import SealedTokens, seal_tokens
from headwater.connectors.connector import Connector, Role, SendingMode
from headwater.connectors.settings import Settings
from headwater.management.authorization import Authorization, GrantedToken, open_authorization_token
from headwater.management.connection_rules import (
    check_account_or_settings,
    check_auth_token,
    check_available,
    check_linked_connections,
    check_role,
    check_sending_mode,
    check_strategy,
    check_type,
    find_connector,
    parse_role,
    parse_sending_mode,
    parse_strategy,
    read_settings,
    replace_settings,
)
from headwater.management.event_write_keys import new_event_write_key
from headwater.management.lookup import find_connection
from headwater.management.names import check_name
from headwater.management.quotas import DEFAULT_QUOTAS, Quotas
from headwater.management.settings_checks import SettingsChecks


class CreateConnection(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a create request; an absent member is "", None or empty."""

    name: str
    role: str
    connector: str
    strategy: str | None = None
    sending_mode: str | None = None
    linked_connections: tuple[int, ...] = ()
    settings: Mapping[str, object] | None = None
    auth_token: str = ""


class UpdateConnection(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an update request. It replaces the connection: an absent member becomes None.

    Only absent `settings` stay unchanged, because callers cannot read them to send them back. `auth_token` renews the
    authorization of the connection's OAuth account.
    """

    name: str
    strategy: str | None = None
    sending_mode: str | None = None
    settings: Mapping[str, object] | None = None
    auth_token: str = ""


async def create_connection(
    catalog: Catalog,
    workspace: int,
    request: CreateConnection,
    quotas: Quotas = DEFAULT_QUOTAS,
    checks: SettingsChecks | None = None,
) -> Connection:
    """Create a connection, with its first event write key if it receives events, and with links in both directions.

    The settings are checked with the outside system last, after all other rules; not at all without `checks`. Raises
    BadRequest; Unprocessable with ConnectorNotExist, LinkedConnectionNotExist, InvalidSettings, ConnectorNotAvailable
    or TooManyConnections; Unavailable.
    """
    role = parse_role(request.role)
    if not request.connector:
        raise BadRequest("connector is required", field="connector")
    check_name(request.name)
    strategy = parse_strategy(request.strategy)
    if role == "Destination" and strategy is not None:
        raise BadRequest("destination connections cannot have a strategy", field="strategy")
    sending_mode = parse_sending_mode(request.sending_mode)
    connector = find_connector(catalog, request.connector)
    check_type(connector)
    check_role(connector, role)
    sending_mode = sending_mode or _only_sending_mode(connector, role)

    def check() -> Settings | None:
        check_linked_connections(catalog, workspace, connector, role, request.linked_connections)
        check_strategy(connector, role, strategy)
        check_sending_mode(connector, role, sending_mode)
        check_auth_token(connector, request.auth_token)
        settings = read_settings(connector, role, request.settings, is_authorized=bool(request.auth_token))
        check_available(connector)
        quotas.check_connection(catalog, workspace)
        return settings

    checked = None
    if checks is not None and connector.engine.checks_settings:
        given = check()
        # Not within the change, because other changes wait for its end.
        token = _granted_token(catalog, workspace, connector, role, request.auth_token, checks.now())
        checked = None if given is None else await checks.checked(workspace, connector, given, token)
    async with catalog.change() as change:
        settings = check()
        connection = Connection(
            id=change.new_id(),
            workspace=workspace,
            name=request.name,
            connector=connector.code,
            role=role,
            strategy=strategy,
            sending_mode=sending_mode,
            created_at=change.now,
            linked_connections=tuple(sorted(request.linked_connections)),
            event_write_keys=(
                (new_event_write_key(connector, change.identifiers),) if connector.receives_events(role) else ()
            ),
        )
        if settings is not None:
            connection = catalog.sealed(connection, settings if checked is None else checked)
        if request.auth_token:
            connection = _with_account(catalog, change, connector, connection, request.auth_token)
        change.add_connection(connection)
    return connection


async def update_connection(
    catalog: Catalog, workspace: int, id_: int, request: UpdateConnection, checks: SettingsChecks | None = None
) -> Connection:
    """Replace the name, the strategy, the sending mode, and the settings and the authorization if they are given.

    Given settings are checked with the outside system, if there are `checks`. Raises NotFound, BadRequest;
    Unprocessable with InvalidSettings; Unavailable.
    """

    def replace() -> tuple[Connection, Connection, Connector, Settings | None]:
        old = find_connection(catalog, workspace, id_)
        check_name(request.name)
        strategy = parse_strategy(request.strategy)
        sending_mode = parse_sending_mode(request.sending_mode)
        connector = find_connector(catalog, old.connector)
        check_strategy(connector, old.role, strategy)
        check_sending_mode(connector, old.role, sending_mode)
        new = msgspec.structs.replace(old, name=request.name, strategy=strategy, sending_mode=sending_mode)
        given = request.settings
        if old.oauth_account is not None:
            check_account_or_settings(connector, given)
        return old, new, connector, None if given is None else replace_settings(connector, old.role, given)

    checked = None
    if checks is not None and request.settings is not None:
        old, _, connector, given = replace()
        granted = _granted_token(catalog, workspace, connector, old.role, request.auth_token, checks.now())
        token = granted or checks.access_token(catalog, old)
        checked = None if given is None else await checks.checked(workspace, connector, given, token)
    async with catalog.change() as change:
        old, new, connector, settings = replace()
        if settings is not None:
            new = catalog.sealed(new, settings if checked is None else checked)
        if request.auth_token:
            check_auth_token(connector, request.auth_token)
            account = _authorize_again(catalog, change, connector, old, request.auth_token)
            new = msgspec.structs.replace(new, oauth_account=account)
        if new != old:
            change.update_connection(new)
    return new


async def get_connection(catalog: Catalog, workspace: int, id_: int) -> Connection:
    """Return the connection. Raises BadRequest, NotFound."""
    return find_connection(catalog, workspace, id_)


async def list_connections(catalog: Catalog, workspace: int) -> list[Connection]:
    """Return the connections of the workspace by the bytes of their names, then by id."""
    return catalog.connections(workspace)


async def delete_connection(catalog: Catalog, workspace: int, id_: int) -> None:
    """Delete a connection with its pipelines, event write keys and links. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        change.remove_connection(find_connection(catalog, workspace, id_))


def _granted_token(
    catalog: Catalog, workspace: int, connector: Connector, role: Role, auth_token: str, now: datetime
) -> GrantedToken | None:
    """Return the access token of an authorization token, to check settings with; None without one. Raises BadRequest,
    and Unprocessable for a connector without OAuth."""
    if not auth_token:
        return None
    check_auth_token(connector, auth_token)
    return GrantedToken(open_authorization_token(catalog, workspace, connector, role, auth_token, now).tokens)


def _with_account(
    catalog: Catalog, change: Change, connector: Connector, connection: Connection, auth_token: str
) -> Connection:
    """Return the connection with the OAuth account of an authorization token. Connections with one account share it."""
    workspace = connection.workspace
    authorization = open_authorization_token(catalog, workspace, connector, connection.role, auth_token, change.now)
    account = catalog.oauth_account(workspace, connector.code, authorization.account)
    if account is None:
        account = OAuthAccount(
            id=change.new_id(), code=authorization.account, authorized_at=authorization.authorized_at
        )
        tokens = _sealed_tokens(catalog, workspace, connector, account, authorization)
        change.add_oauth_account(workspace, connector.code, account, tokens)
    else:
        tokens = _sealed_tokens(catalog, workspace, connector, account, authorization)
        account = change.authorize_again(account, tokens)
    return msgspec.structs.replace(connection, oauth_account=account)


def _authorize_again(
    catalog: Catalog, change: Change, connector: Connector, connection: Connection, auth_token: str
) -> OAuthAccount:
    """Replace the tokens of the connection's OAuth account, and return it. Raises BadRequest for a token of another
    account."""
    authorization = open_authorization_token(
        catalog, connection.workspace, connector, connection.role, auth_token, change.now
    )
    account = connection.oauth_account
    if account is None or account.code != authorization.account:
        raise BadRequest("authorization token is for another account of the application", field="authToken")
    return change.authorize_again(
        account, _sealed_tokens(catalog, connection.workspace, connector, account, authorization)
    )


def _sealed_tokens(
    catalog: Catalog, workspace: int, connector: Connector, account: OAuthAccount, authorization: Authorization
) -> SealedTokens:
    return SealedTokens(
        sealed=seal_tokens(catalog.keyring, account.id, workspace, connector.code, authorization.tokens),
        expires_at=authorization.tokens.expires_at,
        authorized_at=authorization.authorized_at,
    )


def _only_sending_mode(connector: Connector, role: Role) -> SendingMode | None:
    """Return the mode that may be omitted on create, because it is the only one."""
    capabilities = connector.capabilities(role)
    modes = () if capabilities is None else capabilities.sending_modes
    return modes[0] if len(modes) == 1 else None
