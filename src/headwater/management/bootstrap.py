"""Creates the first workspace of an installation and an API key for it.

Every start calls it, and several may run at the same time: existing objects are not changed. A generated key is
returned and stored nowhere in clear, so a caller that must not lose the key stores one first and passes it in.
"""

from typing import Final

import msgspec

from headwater.base import apikeys
from headwater.base.errors import BadRequest
from headwater.catalog import ApiKey, Catalog, Change, Workspace, api_key_digest
from headwater.management.api_keys import key_hint

INITIAL_WORKSPACE: Final = "Default"


class Bootstrapped(msgspec.Struct, frozen=True, kw_only=True):
    """`workspace` is the oldest workspace, and `created` is true if it is new. `api_key` is the key in clear if this
    call registered one, and None otherwise."""

    workspace: Workspace
    created: bool
    api_key: str | None


async def bootstrap(catalog: Catalog, *, api_key: str | None = None) -> Bootstrapped:
    """Create the first workspace if there is none, and register a key that is restricted to the oldest workspace.

    At the first start the key is the given one or a new one; later it is the given one, if it is unknown. Raises
    BadRequest if the given key breaks a rule.
    """
    if api_key is not None:
        try:
            apikeys.check(api_key)
        except ValueError as rule:
            raise BadRequest(f"the API key {rule}", field="apiKey") from None
    async with catalog.change() as change:
        existing = catalog.workspaces()
        if existing:
            workspace = existing[0]
        else:
            workspace = Workspace(id=change.new_id(), name=INITIAL_WORKSPACE, created_at=change.now)
            change.add_workspace(workspace)
            api_key = api_key or change.identifiers.api_key()
        new_key = None if api_key is None or catalog.api_key(api_key) else api_key
        if new_key is not None:
            _register(change, workspace, new_key)
    return Bootstrapped(workspace=workspace, created=not existing, api_key=new_key)


def _register(change: Change, workspace: Workspace, key: str) -> None:
    change.add_api_key(
        ApiKey(
            id=change.new_id(),
            workspace=workspace.id,
            name=INITIAL_WORKSPACE,
            digest=api_key_digest(key),
            hint=key_hint(key),
            created_at=change.now,
        )
    )
