"""After an erasure no file has a byte of the person: neither of profiles, lanes and queues, nor in free pages."""

import asyncio
import json
from pathlib import Path
from typing import Any

from headwater.catalog import Connection
from headwater.state import PipelineCounts
from headwater.state.operations import ERASURE_KINDS, ErasureParameters, decode_receipt
from tests.delivery.operations import add_destination, finish, waiting
from tests.harness import Harness, add_source, client_call, open_harness
from tests.processing.people import resolve_by_email
from tests.processing.test_erasing import eraser
from tests.processing.test_lanes import COPY, MAPPING, add_pipeline
from tests.sqlite import files_with

JANE = "jane-doe-4711"
EMAIL = "jane.doe@example.com"
ANONYMOUS = "anonymous-of-jane"
SECRETS = (JANE, EMAIL, ANONYMOUS)


def event(kind: str, user: str | None, number: int, **members: Any) -> dict[str, Any]:
    person = {} if user is None else {"userId": user}
    return {"type": kind, "messageId": f"m-{kind}-{number}-{user and user[0]}", **person, **members}


async def fill(harness: Harness) -> Connection:
    """Put the person, and others, into every store."""
    await resolve_by_email(harness)
    source = await add_source(harness.catalog, harness.workspace)
    mapped = await add_pipeline(harness, source, MAPPING)
    await add_pipeline(harness, source, COPY)
    destination = await add_destination(harness, source)
    for number in range(30):
        other = f"other-{number}"
        events = [
            event("identify", JANE, number, anonymousId=ANONYMOUS, traits={"email": EMAIL}),
            event("identify", None, number, anonymousId=ANONYMOUS, traits={"email": EMAIL}),
            event("identify", other, number, traits={"email": f"{other}@example.com"}),
            event("track", JANE, number, event="Viewed", properties={"note": f"{JANE} was here"}),
            {"type": "no such type", "userId": JANE, "messageId": f"rejected-{number}"},
        ]
        await harness.send(source, json.dumps({"batch": events}).encode())
        device = {"id": f"device-{number}", "token": f"token-{number}", "type": "ios"}
        installed = event("track", JANE, number, event="Device Created or Updated", context={"device": device})
        await harness.send(source, json.dumps({"batch": [installed | {"messageId": f"d-{number}"}]}).encode())
        body = {"external_id": JANE, "email": EMAIL, "data": {"plan": "pro"}}
        key = source.event_write_keys[0]
        await harness.intake.accept(client_call(call="identify", body=json.dumps(body).encode(), key=key))
        await harness.process_log()
        if number == 15:
            await finish(harness, destination, lambda item: "Rejected")
    counts = PipelineCounts()
    counts.add(mapped, "Transformation", "Failed", message=f"{EMAIL} is not a number")
    async with harness.state.transaction() as transaction:
        await transaction.record_counts(counts, now=1_000_000)
    await harness.store.record(counts, now=1_000_000)
    return destination


async def test_no_byte_of_a_person_is_left_in_any_file(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        destination = await fill(harness)
        async with harness.state.transaction() as transaction:
            kpid = await transaction.on_profiles(
                lambda rows: next(
                    each.kpid
                    for each in rows.profiles(range(1, 200))
                    if any(member.name.identity_id == JANE for member in rows.find_members([each.id]))
                )
            )
        assert all(files_with(tmp_path, secret) for secret in SECRETS)
        parameters = ErasureParameters(profile=kpid.hex())
        created = await harness.operations.create(harness.workspace, parameters, None)
        working = eraser(harness)
        operation = await harness.operations.claim(working._owner, kinds=ERASURE_KINDS)
        assert operation is not None
        await working.execute(operation, asyncio.Event())
        ended = await harness.operations.find(created.id)
        assert ended is not None and ended.status == "Completed", ended
        stores = {each.store: each.removed for each in decode_receipt(ended.result).stores}
        assert stores.keys() >= {
            "events", "identities", "profiles", "devices", "traits", "rejected events", "lane entries", "deliveries",
            "dead letters", "pipeline errors", "messages",
        }, stores  # fmt: skip
        assert stores["profiles"] == 1
        assert stores["rejected events"] == 30
        assert {secret: files_with(tmp_path, secret) for secret in SECRETS} == {secret: [] for secret in SECRETS}
        left = await waiting(harness.deliveries, destination)
        assert left and all(message.startswith("m-identify") and message.endswith("-o") for _, message in left)
        await harness.drain_lanes()
        identities, _ = await harness.state.identities(destination.linked_connections[0], first=0, limit=1_000)
        assert {each.user_id for each in identities} == {f"other-{number}" for number in range(30)}
    assert {secret: files_with(tmp_path, secret) for secret in SECRETS} == {secret: [] for secret in SECRETS}
