"""The kinds of pipelines: where each reads from and writes to."""

import pytest

from headwater.connectors.connector import ConnectorType, Role, Target
from headwater.management.pipelines.kinds import find_kind


@pytest.mark.parametrize(
    ("role", "connector_type", "target", "reads_profiles", "writes_profiles", "reads_events"),
    [
        ("Source", "Application", "User", False, True, False),
        ("Source", "Database", "User", False, True, False),
        ("Source", "FileStorage", "User", False, True, False),
        ("Source", "SDK", "User", False, True, True),
        ("Source", "Webhook", "User", False, True, True),
        ("Source", "SDK", "Event", False, False, True),
        ("Destination", "Application", "User", True, False, False),
        ("Destination", "Application", "Event", False, False, True),
        ("Destination", "Database", "User", True, False, False),
        ("Destination", "FileStorage", "User", True, False, False),
    ],
)
def test_what_a_kind_reads_and_writes(
    role: Role,
    connector_type: ConnectorType,
    target: Target,
    reads_profiles: bool,
    writes_profiles: bool,
    reads_events: bool,
) -> None:
    kind = find_kind(role, connector_type, target)
    assert kind is not None
    assert (kind.reads_profiles, kind.writes_profiles, kind.reads_events) == (
        reads_profiles,
        writes_profiles,
        reads_events,
    )


@pytest.mark.parametrize(("role", "target"), [("Source", "Event"), ("Source", "User")])
def test_a_message_broker_has_no_pipelines(role: Role, target: Target) -> None:
    assert find_kind(role, "MessageBroker", target) is None
