"""Resolves API keys to callers and workspaces. Every API that accepts API keys uses this module."""

import re
from dataclasses import dataclass
from typing import Final

from headwater.base.errors import BadRequest, Forbidden, NotFound, Unauthorized
from headwater.base.identifiers import MAX_ID
from headwater.catalog.catalog import Catalog
from headwater.catalog.model import ApiKey

API_KEY_PREFIX: Final = "api_"
"""Prefix of every API key. No event write key has it."""
WORKSPACE_HEADER: Final = "headwater-workspace"

_IDENTIFIER = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True)
class Caller:
    """The API key, and the workspace that it is restricted to or that the call names, if any."""

    key: ApiKey
    workspace: int | None

    def require_workspace(self) -> int:
        """Return the workspace, for calls that need one. Raises Forbidden if an unrestricted key comes without a
        workspace."""
        if self.workspace is None:
            raise Forbidden("this API key opens several workspaces: name one in the Headwater-Workspace header")
        return self.workspace


async def find_caller(catalog: Catalog, authorization: str | None, named: str | None) -> Caller:
    """Return the caller with this `Authorization` header and `named`, the value of the workspace header.

    Raises what `authenticate` raises; BadRequest if the header is not an identifier; NotFound for a workspace that does
    not exist or that the key may not access.
    """
    key = await authenticate(catalog, authorization)
    if named is None:
        return Caller(key, key.workspace)
    if not _IDENTIFIER.fullmatch(named) or int(named) > MAX_ID:
        raise BadRequest("the Headwater-Workspace header must be the identifier of a workspace", field=WORKSPACE_HEADER)
    workspace = int(named)
    is_allowed = key.workspace in (None, workspace)
    if not is_allowed or await catalog.get_or_refresh(catalog.workspace, workspace) is None:
        raise NotFound(f"workspace {workspace} does not exist")
    return Caller(key, workspace)


def check_may_write(key: ApiKey) -> None:
    """Raise Forbidden with the code ReadOnlyKey for a read-only key."""
    if key.access == "Read":
        error = Forbidden("the API key is read-only: it may make GET calls only")
        error.code = "ReadOnlyKey"
        raise error


async def authenticate(catalog: Catalog, authorization: str | None) -> ApiKey:
    """Return the API key of `Bearer api_…`.

    Raises Unauthorized if it is absent or unknown, BadRequest if it has another form.
    """
    authorization = (authorization or "").strip()
    if not authorization:
        raise Unauthorized("the Authorization header with the API key is missing")
    scheme, *rest = authorization.split(maxsplit=1)
    token = rest[0].strip() if rest else ""
    if scheme.lower() != "bearer" or not token:
        raise BadRequest("the Authorization header must be 'Bearer' and an API key", field="authorization")
    if not token.startswith(API_KEY_PREFIX):
        raise BadRequest("an API key starts with api_", field="authorization")
    key = await catalog.get_or_refresh(catalog.api_key, token)
    if key is None:
        raise Unauthorized("the API key is not known")
    return key
