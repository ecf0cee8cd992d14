"""Creates, lists and revokes API keys. The catalog stores only digests: a key is shown once, when it is created.

`caller` is the API key of the call; None stands for the operator at the command line, who may do everything. A key that
is restricted to a workspace lists and creates keys of that workspace only.
"""

from typing import Final, get_args

import msgspec

from headwater.base.errors import BadRequest, Forbidden, NotFound, Unprocessable
from headwater.catalog import Access, ApiKey, Catalog, api_key_digest
from headwater.management.names import MAX_TITLE_CHARACTERS, check_identifier, check_name
from headwater.management.quotas import DEFAULT_QUOTAS, Quotas

_ACCESSES: Final[tuple[Access, ...]] = get_args(Access)


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key and its secret."""

    key: ApiKey
    token: str

    def __repr__(self) -> str:
        return f"NewApiKey(key={self.key!r})"


def key_hint(token: str) -> str:
    """Return the part of a key by which people recognise it: its beginning and end, of a short key only the end."""
    return f"{token[:8]}...{token[-6:]}" if len(token) >= 40 else f"{token[:4]}...{token[-4:]}"


def list_api_keys(catalog: Catalog, caller: ApiKey | None) -> list[ApiKey]:
    """Return the keys that the caller may see, oldest first."""
    return [key for key in catalog.api_keys() if _may_see(caller, key)]


async def create_api_key(
    catalog: Catalog,
    caller: ApiKey | None,
    name: str,
    workspace: int | None,
    type_: str = "API",
    access: str = "Full",
    quotas: Quotas = DEFAULT_QUOTAS,
) -> NewApiKey:
    """Create a key for one workspace, or for all workspaces if `workspace` is None.

    Raises BadRequest; Forbidden if a restricted key asks for more than its own access; Unprocessable with
    WorkspaceNotExist, and with TooManyApiKeys, which does not apply to the operator.
    """
    check_name(name, max_characters=MAX_TITLE_CHARACTERS)
    if workspace is not None:
        check_identifier(workspace, "workspace identifier", field="workspace")
    if type_ != "API":
        raise BadRequest("type is not API, which is the only one", field="type")
    chosen = next((one for one in _ACCESSES if one == access), None)
    if chosen is None:
        raise BadRequest(f"access must be {' or '.join(_ACCESSES)}", field="access")
    if caller is not None and caller.workspace not in (None, workspace):
        raise Forbidden(f"an API key that is restricted to workspace {caller.workspace} makes keys for it alone")
    async with catalog.change() as change:
        if workspace is not None and catalog.workspace(workspace) is None:
            raise Unprocessable("WorkspaceNotExist", f"workspace {workspace} does not exist", field="workspace")
        if caller is not None:
            quotas.check_api_key(catalog, workspace)
        token = change.identifiers.api_key()
        key = ApiKey(
            id=change.new_id(),
            workspace=workspace,
            name=name,
            digest=api_key_digest(token),
            hint=key_hint(token),
            created_at=change.now,
            access=chosen,
        )
        change.add_api_key(key)
    return NewApiKey(key=key, token=token)


async def delete_api_key(catalog: Catalog, caller: ApiKey | None, id_: int) -> None:
    """Revoke a key; calls with it fail from then on. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        check_identifier(id_, "key identifier", field="id")
        found = next((key for key in list_api_keys(catalog, caller) if key.id == id_), None)
        if found is None:
            raise NotFound(f"API key {id_} does not exist", field="id")
        change.remove_api_key(found)


def _may_see(caller: ApiKey | None, key: ApiKey) -> bool:
    return caller is None or caller.workspace in (None, key.workspace)
