"""Who makes a call, and which workspace they may work in, by the metadata of the call: for REST, its HTTP headers."""

from contextlib import suppress

from headwater.api.admission import admit
from headwater.api.call import Context, metadata_of
from headwater.base.errors import BadRequest, Unavailable
from headwater.catalog import ApiKey, Caller, Catalog, access
from headwater.catalog.access import WORKSPACE_HEADER


async def authenticate(catalog: Catalog, context: Context) -> ApiKey:
    """The API key of a call that needs no workspace. Raises Unauthorized and BadRequest, and what `admit` raises."""
    await _see_the_newest(catalog)
    key = await access.authenticate(catalog, metadata_of(context).get("authorization"))
    admit(key)
    return key


async def workspace_of(catalog: Catalog, context: Context) -> int:
    """The workspace that the call is for: the one that its key is restricted to, or the one that its header names.

    Raises what `caller_of` raises, and Forbidden when an unrestricted key comes without the header.
    """
    return (await caller_of(catalog, context)).require_workspace()


async def caller_of(catalog: Catalog, context: Context) -> Caller:
    """Who calls, for calls that need no workspace.

    Raises Unauthorized, BadRequest and NotFound as `headwater.catalog.access` has it; BadRequest for a header that is
    repeated; and what `admit` raises.
    """
    check_not_repeated(context)
    await _see_the_newest(catalog)
    metadata = metadata_of(context)
    caller = await access.find_caller(catalog, metadata.get("authorization"), metadata.get(WORKSPACE_HEADER))
    admit(caller.key)
    return caller


async def _see_the_newest(catalog: Catalog) -> None:
    """The caller may have changed something a moment ago, through another process. Where the database is away, what is
    known goes on being shown."""
    if catalog.is_shared:
        with suppress(Unavailable):
            await catalog.refresh()


def check_not_repeated(context: Context) -> None:
    """Raises BadRequest when the caller says twice who it is, or for which workspace."""
    for header in ("authorization", WORKSPACE_HEADER):
        if sum(name == header for name, _ in context.invocation_metadata() or ()) > 1:
            raise BadRequest(f"the {header} header is repeated", field=header)
