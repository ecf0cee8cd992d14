"""Links and refused evidence as messages."""

from collections.abc import Iterable, Mapping

from headwater.api.messages.profiles import name_message
from headwater.api.messages.times import set_time
from headwater.catalog import ResolutionSettings
from headwater.profiles.evidence import SAME_NAME
from headwater.profiles.explaining import Step
from headwater.state.profiles import IdentityRow, LinkValue, RefusedEvidence
from headwater.v1 import profiles_pb2 as pb

Identities = Mapping[int, IdentityRow]
"""Identities by their id. One that was deleted in the meantime is missing."""


def link_message(step: Step, identities: Identities, settings: ResolutionSettings) -> pb.ProfileLink:
    """Return a link as a message."""
    message = pb.ProfileLink(rule="SameUser" if step.value.identifier == SAME_NAME else "Identifier")
    if message.rule == "Identifier":
        message.value = step.value.value
        _set_identifier(message, step.value, settings)
    for field, id_ in ((message.from_identity, step.identity), (message.to_identity, step.other)):
        if (identity := identities.get(id_)) is not None:
            _set_linked(field, identity)
    return message


def refusal_message(
    refused: RefusedEvidence, holders: int | None, identities: Identities, settings: ResolutionSettings
) -> pb.Refusal:
    """Return refused evidence as a message. `holders` is the number of identities that have the value."""
    message = pb.Refusal(reason=refused.reason, value=refused.value.value, identities=holders)
    _set_identifier(message, refused.value, settings)
    for field, id_ in ((message.identity, refused.identity), (message.other, refused.other)):
        if (identity := identities.get(id_)) is not None:
            field.CopyFrom(name_message(identity.name))
    set_time(message, "time", refused.at)
    return message


def refused_identities(refused: Iterable[RefusedEvidence]) -> set[int]:
    """Return the identities that refused evidence names."""
    return {id_ for each in refused for id_ in (each.identity, each.other) if id_}


def _set_identifier(message: pb.ProfileLink | pb.Refusal, value: LinkValue, settings: ResolutionSettings) -> None:
    """Set the path of the identifier, if the settings have it: they may have changed since."""
    if 0 <= value.identifier < len(settings.identifiers):
        message.identifier = settings.identifiers[value.identifier].path


def _set_linked(message: pb.LinkedIdentity, identity: IdentityRow) -> None:
    message.connection, message.pipeline = identity.name.connection, identity.pipeline
    if identity.name.is_anonymous:
        message.anonymous_id = identity.name.identity_id
    else:
        message.user_id = identity.name.identity_id
