"""The courier: processes the lanes of pipelines that do not run in the worker's transaction.

It runs user functions, and mappings that would exceed their workspace's share of the worker's time. A slow or endless
function delays only its own lane: workspaces share the sandboxes by the time that they have used, and a lane whose
function keeps reaching its limit is paused.
"""

from headwater.courier.courier import DEFAULT_SLOTS, Courier

__all__ = ["DEFAULT_SLOTS", "Courier"]
