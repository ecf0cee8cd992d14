"""The temporary file of an export."""

from functools import partial
from pathlib import Path

import pytest

from headwater.runs.exporting.outbox import DueProfile, Outbox, open_outbox
from headwater.runs.job import RunFailed


def due(profile: int, claim: str = "") -> DueProfile:
    return DueProfile(profile, bytes(16), b"s", b"c", "", b"x" * 10_000, claim)


async def test_a_full_disk_is_the_reason_of_a_failure(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        await outbox.run(lambda opened: opened._connection.execute("PRAGMA max_page_count = 20"))
        with pytest.raises(RunFailed, match=r"temporary file of the export .* full"):
            await outbox.run(partial(Outbox.add, profiles=[due(number) for number in range(100)]))


async def test_repeated_claims_are_searched_once(tmp_path: Path) -> None:
    """A profile that stays is not looked at again for each part of those that are taken out."""
    async with open_outbox(tmp_path) as outbox:
        claims = [number // 2 for number in range(200)]
        await outbox.run(partial(Outbox.add, profiles=[due(id_, f"{claim}") for id_, claim in enumerate(claims)]))
        await outbox.run(Outbox.index_claims)
        before, taken = 2**63 - 1, list[int]()
        while found := await outbox.run(partial(Outbox.take_repeated, before=before, count=7)):
            before = found[-1][0].profile
            taken += [each.profile for each, _ in found]
        assert taken == list(range(199, 0, -2))
        left = await outbox.run(partial(Outbox.read_after, profile=-1, count=999))
        assert [each.profile for each in left] == list(range(0, 200, 2))
