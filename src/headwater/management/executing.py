"""Executes operations that take a moment only: creates one, and waits until the worker has executed it."""

import asyncio
from typing import Final

from headwater.base.errors import Unavailable
from headwater.state.operations import Operation, OperationParameters, OperationStore

MAX_WAIT_SECONDS: Final = 10.0
"""Time after which a call ends with 503 if its operation has not ended."""
POLL_SECONDS: Final = 0.05


class OperationFailed(Unavailable):
    """The worker ended an operation with an error. It had no effect."""


async def execute(
    operations: OperationStore,
    workspace: int,
    parameters: OperationParameters,
    *,
    max_wait_seconds: float = MAX_WAIT_SECONDS,
) -> Operation:
    """Create an operation, and return it when it is completed.

    Raises Unprocessable as `OperationStore.create` does, OperationFailed, and Unavailable if the operation is cancelled
    or does not end in time. In the last case its cancel is requested.
    """
    operation: Operation | None = await operations.create(workspace, parameters, None)
    assert operation is not None
    id_, loop = operation.id, asyncio.get_running_loop()
    deadline = loop.time() + max_wait_seconds
    while operation is not None and operation.ended_at is None:
        if loop.time() >= deadline:
            operation = await operations.cancel(id_, workspace)
            break
        await asyncio.sleep(POLL_SECONDS)
        operation = await operations.find(id_, workspace)
    if operation is not None and operation.status == "Completed":
        return operation
    if operation is not None and operation.status == "Failed":
        raise OperationFailed(f"operation {id_} failed: {operation.error}")
    raise Unavailable(f"operation {id_} was not executed in {max_wait_seconds:g} seconds")
