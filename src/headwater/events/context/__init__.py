"""The context of an event: what the client says of its environment, brought into the form that the event schema names.

What can be understood is normalised, and what the caller's connection or its user agent tells is filled in. Everything
else stays the text that was sent, at its place: what has no field in the schema, and what does not fit its field. The
stored document keeps it and destinations get it; filters, mappings and functions see only what fits (`events/record`).
"""

from headwater.events.context.location import Locate, Location
from headwater.events.context.normalise import NormalContext, normal_context

__all__ = ["Locate", "Location", "NormalContext", "normal_context"]
