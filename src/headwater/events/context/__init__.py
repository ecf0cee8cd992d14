"""The context of an event: the environment of the client, in the form of the event schema.

Known values are normalised, and missing ones are filled in from the caller's connection and user agent. All else
remains the text that was sent, at its place: members without a field in the schema, and values that do not fit their
field. The stored document keeps them and destinations get them; filters, mappings and functions get only values that
fit (`events/record`).
"""

from headwater.events.context.location import Locate, Location
from headwater.events.context.normalise import NormalContext, normal_context

__all__ = ["Locate", "Location", "NormalContext", "normal_context"]
