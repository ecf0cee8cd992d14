"""The context of an event: the environment of the client, in the form that the event schema defines.

Known values are normalised, and missing ones are filled in from the caller's connection and user agent. Everything
else stays the text that was sent, at its place: what has no field in the schema, and what does not fit its field. The
stored document keeps it and destinations get it; filters, mappings and functions see only what fits (`events/record`).
"""

from headwater.events.context.location import Locate, Location
from headwater.events.context.normalise import NormalContext, normal_context

__all__ = ["Locate", "Location", "NormalContext", "normal_context"]
