"""Accepts calls with events: authenticates the key, decompresses, checks, appends to the log, and only then returns.

A rejected event does not affect the other events of its call. The call is appended as it was sent; the worker applies
the same rules to the same bytes and stores the rejected events with their reasons. A call that is rejected as a whole
is appended too, with its reason in the envelope, and the error is raised.
"""

from headwater.intake.intake import IncomingCall, Intake, Receipt
from headwater.intake.ratelimit import RateLimit, RateLimiter
from headwater.intake.sdksettings import native_settings, project_settings

__all__ = ["IncomingCall", "Intake", "RateLimit", "RateLimiter", "Receipt", "native_settings", "project_settings"]
