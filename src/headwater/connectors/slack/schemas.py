"""The event types of Slack, with the mappings that suit most events."""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.connectors.slack.api import MAX_TEXT_CHARACTERS
from headwater.schemas import JsonType, ObjectType, Property, StringType

MAX_LABEL_CHARACTERS: Final = 150

_NAME: Final = "coalesce(event, name, type)"

SEND_MESSAGE: Final = EventType(
    id="send_message",
    name="Send message",
    description="Send a message to the channel",
    filter="type is 'track'",
    schema=ObjectType(
        (
            Property(
                "text",
                StringType(max_length=MAX_TEXT_CHARACTERS),
                prefilled=f"{_NAME} ': ' coalesce(traits.email, userId, anonymousId, 'nobody')",
                create_required=True,
                description="Text",
            ),
            Property(
                "label",
                StringType(max_length=MAX_LABEL_CHARACTERS),
                prefilled=f"substring({_NAME}, 1, {MAX_LABEL_CHARACTERS})",
                description="Name of the event in summaries",
            ),
            Property("blocks", JsonType(), description="Blocks (Block Kit)"),
        )
    ),
)
EVENT_TYPES: Final = (SEND_MESSAGE,)
