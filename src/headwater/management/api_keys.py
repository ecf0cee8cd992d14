"""API keys: create, list, revoke. The catalog keeps their digests only: a key is shown once, when it is made.

`caller` is the API key that asks; None stands for the operator at the command line, who may do everything. A key that
is restricted to a workspace sees and makes keys of that workspace alone.
"""

from typing import Final, get_args

import msgspec

from headwater.base.errors import BadRequest, Forbidden, NotFound, Unprocessable
from headwater.catalog import Access, ApiKey, Catalog, digest_of
from headwater.management.names import MAX_TITLE_CHARACTERS, check_identifier, check_name
from headwater.management.quotas import DEFAULT_QUOTAS, Quotas

_ACCESSES: Final[tuple[Access, ...]] = get_args(Access)


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was made now, and its secret."""

    key: ApiKey
    token: str

    def __repr__(self) -> str:
        return f"NewApiKey(key={self.key!r})"


def hint_of(token: str) -> str:
    """What people recognise a key by: its beginning and its end, of a short one only the end."""
    return f"{token[:8]}...{token[-6:]}" if len(token) >= 40 else f"{token[:4]}...{token[-4:]}"


def list_api_keys(catalog: Catalog, caller: ApiKey | None) -> list[ApiKey]:
    """The keys that the caller may see, oldest first."""
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
    """Make a key that opens one workspace, or all of them when `workspace` is None.

    Raises BadRequest; Forbidden when a restricted key asks for more than it opens itself; Unprocessable with
    WorkspaceNotExist, and with TooManyApiKeys, which does not hold for the operator.
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
            digest=digest_of(token),
            hint=hint_of(token),
            created_at=change.now,
            access=chosen,
        )
        change.add_api_key(key)
    return NewApiKey(key=key, token=token)


async def delete_api_key(catalog: Catalog, caller: ApiKey | None, id_: int) -> None:
    """Revoke a key: nobody can call with it from now on. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        check_identifier(id_, "key identifier", field="id")
        found = next((key for key in list_api_keys(catalog, caller) if key.id == id_), None)
        if found is None:
            raise NotFound(f"API key {id_} does not exist", field="id")
        change.remove_api_key(found)


def _may_see(caller: ApiKey | None, key: ApiKey) -> bool:
    return caller is None or caller.workspace in (None, key.workspace)
