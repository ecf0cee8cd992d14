"""Where the work of a call is done: that of a small request on the event loop, that of a larger one in a process of its
own."""

from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from google.protobuf.message import Message

from headwater.base.computing import Computing
from headwater.catalog import ApiKey

SMALL_BYTES: Final = 2_048
"""Size of the largest request, as a message, that is computed on the event loop. It takes about 10 ms at most, and
what people type is seldom larger."""

SMALL_DEFINITION_BYTES: Final = 16_384
"""The largest definitions that are made into a message in the event loop, which takes less than 10 ms."""

_Request = TypeVar("_Request", bound=Message)
_Result = TypeVar("_Result")
_More = ParamSpec("_More")


async def compute(
    computing: Computing,
    owner: str,
    function: Callable[Concatenate[_Request, _More], _Result],
    request: _Request,
    *arguments: _More.args,
    **keywords: _More.kwargs,
) -> _Result:
    """The result of a function of the request, which is at the top level of its module. Raises what it raises, and what
    `Computing.run` raises."""
    if request.ByteSize() <= SMALL_BYTES:
        return function(request, *arguments, **keywords)
    return await computing.run(owner, function, request, *arguments, **keywords)


def find_owner(key: ApiKey) -> str:
    """Return the owner of the share of processes that a call uses: the workspace of its key, or a key without one."""
    return f"key {key.id}" if key.workspace is None else f"workspace {key.workspace}"
