"""Who calls, and which workspace they may work in."""

import re
from dataclasses import dataclass
from typing import Final

from headwater.api.call import Context, metadata_of
from headwater.base.errors import BadRequest, Forbidden, NotFound, Unauthorized
from headwater.base.identifiers import LARGEST_ID
from headwater.catalog import ApiKey, Catalog

WORKSPACE_HEADER: Final = "headwater-workspace"

_IDENTIFIER = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True)
class Caller:
    """Who calls: the API key, and the workspace that it is restricted to or that the call names, if any."""

    key: ApiKey
    workspace: int | None


async def authenticate(catalog: Catalog, metadata: dict[str, str]) -> ApiKey:
    """The API key of `Authorization: Bearer api_…`.

    Raises Unauthorized when it is absent or unknown, BadRequest when it is not of that form.
    """
    authorization = metadata.get("authorization", "").strip()
    if not authorization:
        raise Unauthorized("the Authorization header with the API key is missing")
    scheme, *rest = authorization.split(maxsplit=1)
    token = rest[0].strip() if rest else ""
    if scheme.lower() != "bearer" or not token:
        raise BadRequest("the Authorization header must be 'Bearer' and an API key", field="authorization")
    if not token.startswith("api_"):
        raise BadRequest("an API key starts with api_", field="authorization")
    key = catalog.api_key(token)
    if key is None:
        await catalog.refresh()  # another process may have registered it a moment ago
        key = catalog.api_key(token)
    if key is None:
        raise Unauthorized("the API key is not known")
    return key


async def workspace_of(catalog: Catalog, context: Context) -> int:
    """The workspace that the call is for: the one that its key is restricted to, or the one that its header names.

    Raises what `caller_of` raises, and Forbidden when an unrestricted key comes without the header.
    """
    caller = await caller_of(catalog, context)
    if caller.workspace is None:
        raise Forbidden("this API key opens several workspaces: name one in the Headwater-Workspace header")
    return caller.workspace


async def caller_of(catalog: Catalog, context: Context) -> Caller:
    """Who calls, for calls that need no workspace.

    Raises what `authenticate` raises; BadRequest for a header that is repeated or of the wrong form; NotFound for a
    workspace that the key does not open or that does not exist.
    """
    for header in ("authorization", WORKSPACE_HEADER):
        if sum(name == header for name, _ in context.invocation_metadata() or ()) > 1:
            raise BadRequest(f"the {header} header is repeated", field=header)
    metadata = metadata_of(context)
    key = await authenticate(catalog, metadata)
    named = metadata.get(WORKSPACE_HEADER)
    if named is None:
        return Caller(key, key.workspace)
    if not _IDENTIFIER.fullmatch(named) or int(named) > LARGEST_ID:
        raise BadRequest("the Headwater-Workspace header must be the identifier of a workspace", field=WORKSPACE_HEADER)
    workspace = int(named)
    if key.workspace not in (None, workspace) or catalog.workspace(workspace) is None:
        raise NotFound(f"workspace {workspace} does not exist")
    return Caller(key, workspace)
