"""Profiles: who people are, as identity resolution found. The worker writes them in the transaction of a batch."""

from headwater.state.profiles.model import (
    Alias,
    ChangedIdentity,
    IdentityName,
    IdentityRow,
    Link,
    LinkValue,
    Member,
    ProfileChange,
    ProfileChangeKind,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    RefusedReason,
    Separation,
)

__all__ = [
    "Alias",
    "ChangedIdentity",
    "IdentityName",
    "IdentityRow",
    "Link",
    "LinkValue",
    "Member",
    "ProfileChange",
    "ProfileChangeKind",
    "ProfileChanges",
    "ProfileRow",
    "RefusedEvidence",
    "RefusedReason",
    "Separation",
]
