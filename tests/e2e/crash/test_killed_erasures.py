"""An erasure whose worker is killed at its stages continues, and leaves nothing of the person.

All files are searched, with the unused parts of databases.
HEADWATER_CRASH_ROUNDS sets at how many points the worker is killed, and HEADWATER_CRASH_SEED which ones.
"""

import os
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.e2e.receiver import Received, receiver
from tests.e2e.source import get, make_source, post
from tests.e2e.test_delivery import add_destination
from tests.e2e.test_erasures import EMAIL, JANE, NUMBER, SECRETS, fill, reject, removed
from tests.sqlite import files_with
from tests.system import RunningSystem, start, wait_until

pytestmark = pytest.mark.process

ROUNDS: Final = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
SEED: Final = int(os.environ.get("HEADWATER_CRASH_SEED", "20260101"))
KILLING: Final = Path(__file__).parents[2] / "killing"
STAGES: Final = (
    *("count events", "events", "identities", "profiles", "people", "rejected", "lanes", "lane results"),
    *("count deliveries", "deliveries", "errors", "operations", "runs"),
)
POINTS: Final = (
    *(f"{stage} {point}" for stage in STAGES for point in ("begins", "writes", "ends")),
    *("overwriting begins", "overwriting ends", "letting in begins", "letting in ends", "completing ends"),
)
RESTART_SECONDS: Final = 60.0
"""Time until a killed worker continues: its start, and the lease of the operation."""


def choose_points() -> list[str]:
    """Return points of deleting, of overwriting and of the end, in their order."""
    chosen = Random(SEED).sample(POINTS, min(ROUNDS, len(POINTS)))
    return [point for point in POINTS if point in chosen]


def files_with_secrets(system: RunningSystem) -> dict[str, list[str]]:
    """Return the files with each secret of the person."""
    return {secret: found for secret in SECRETS if (found := files_with(system.data_dir, secret))}


def later(_: Received) -> tuple[int, dict[str, str], bytes]:
    return 503, {}, b"later"


@pytest.mark.timeout(120 + 2 * RESTART_SECONDS * min(ROUNDS, len(POINTS)))
def test_an_erasure_continues_after_each_kill(tmp_path: Path) -> None:
    kills = tmp_path / "kills"
    kills.write_text("")
    system = start(
        tmp_path / "data",
        HEADWATER_ALLOW_PRIVATE_DESTINATIONS="1",
        PYTHONPATH=":".join(filter(None, [str(KILLING), os.environ.get("PYTHONPATH")])),
        PYTHONKILLS=str(kills),
    )
    try:
        source, client = make_source(system), make_source(system, connector="client")
        with receiver(later) as waiting, receiver(reject) as rejecting:
            add_destination(source, waiting.url)
            add_destination(source, rejecting.url)
            fill(source, client)
            source.wait_for(4 * NUMBER)
            client.wait_for(2)
            assert files_with_secrets(system).keys() == set(SECRETS)
            points = choose_points()
            kills.write_text("\n".join(points))
            erasure = post(system, "/v1/erasures", {"userId": JANE})["id"]
            sent = 0

            def has_ended() -> bool:
                """Send further events of the person meanwhile: they have no effect."""
                nonlocal sent
                if sent < 50:
                    sent += 1
                    source.send("identify", {"userId": JANE, "traits": {"email": EMAIL}})
                    source.send("track", {"userId": JANE, "event": "Meanwhile", "properties": {"note": EMAIL}})
                return get(system, f"/v1/erasures/{erasure}")["status"] not in ("Pending", "Running")

            wait_until(has_ended, 60 + RESTART_SECONDS * len(points))
            receipt = get(system, f"/v1/erasures/{erasure}")
            assert receipt["status"] == "Completed", (receipt, system.errors)
            # "completing ends" is after the end of the operation.
            wait_until(lambda: not kills.read_text().strip(), RESTART_SECONDS)
            found = removed(receipt)
            # Further events may have been stored before the erasure began.
            assert found["events"] >= 3 * NUMBER + 2 and found["rejected events"] == NUMBER
            source.send("track", {"userId": "last", "event": "Viewed"})
            events = source.wait_for(NUMBER + 1)
            assert {event.get("userId") for event in events} == {*(f"other-{n}" for n in range(NUMBER)), "last"}
            identities = get(system, f"/v1/connections/{source.id}/identities?limit=1000")["identities"]
            assert JANE not in {each.get("userId") for each in identities}
            assert files_with_secrets(system) == {}
            source.send("track", {"userId": JANE, "event": "Later"})
            assert JANE in {event.get("userId") for event in source.wait_for(NUMBER + 2)}
    finally:
        assert system.stop() == 0, system.errors
