"""Identities as messages."""

from headwater.state import Identity
from headwater.v1 import identities_pb2 as pb


def identity_message(identity: Identity) -> pb.Identity:
    """Return an identity as a message."""
    message = pb.Identity(
        user_id=identity.user_id,
        anonymous_ids=identity.anonymous_ids,
        connection=identity.connection,
        pipeline=identity.pipeline,
    )
    message.updated_at.FromDatetime(identity.updated_at)
    return message
