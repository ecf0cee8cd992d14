"""Filters ⇄ messages."""

from headwater.filters import Condition, Filter
from headwater.v1 import filters_pb2 as pb


def filter_of(message: pb.Filter) -> Filter:
    """The filter that a message says; whether it makes sense is not looked at."""
    return Filter(
        message.logical,
        tuple(
            Condition(condition.property, condition.operator, tuple(condition.values) or None)
            for condition in message.conditions
        ),
    )


def filter_message(filter_: Filter) -> pb.Filter:
    """The filter as a message."""
    return pb.Filter(logical=filter_.logical, conditions=[condition_message(one) for one in filter_.conditions])


def condition_message(condition: Condition) -> pb.FilterCondition:
    """A condition as a message."""
    return pb.FilterCondition(property=condition.property, operator=condition.operator, values=condition.values or ())
