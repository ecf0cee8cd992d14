"""Accepts calls with events: authenticates the key, inflates, checks, appends to the log, and only then returns.

A refused event does not hinder its neighbours: the call is appended as it came, and the worker, which reads the same
bytes by the same rules, keeps the refused ones with their reasons. A call that is refused as a whole is appended too,
with its reason in the envelope, and raises.
"""

from headwater.intake.intake import IncomingCall, Intake, Receipt
from headwater.intake.ratelimit import RateLimit, RateLimiter
from headwater.intake.sdksettings import native_settings, project_settings

__all__ = ["IncomingCall", "Intake", "RateLimit", "RateLimiter", "Receipt", "native_settings", "project_settings"]
