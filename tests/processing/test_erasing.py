"""A person is erased from all stores, and does not come back."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import Metrics
from headwater.catalog import Connection
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.processing.erasing import Eraser
from headwater.processing.erasing.stages import Stages
from headwater.processing.lanes import ResultApplier
from headwater.processing.processor import BatchProcessor
from headwater.state import erasure
from headwater.state.deliveries import OperationProgress
from headwater.state.operations import (
    ERASURE_KINDS,
    ErasureParameters,
    ErasureReceipt,
    Operation,
    OperationParameters,
    ReplayParameters,
    SplitIdentity,
    SplitParameters,
    decode_receipt,
)
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.runs import RunError, RunErrorSample, RunProgress, RunRequest
from headwater.state.runs.store import MAX_EXAMINED
from tests.delivery.operations import add_destination, execute, waiting
from tests.harness import Harness, add_source, add_workspace, client_call
from tests.processing.people import resolve_by_email
from tests.processing.test_lanes import COPY, MAPPING, add_pipeline

JANE = "jane-4711"
EMAIL = "jane.doe@example.com"
KEEP = timedelta(hours=1)


def eraser(harness: Harness) -> Eraser:
    return Eraser(
        harness.log,
        harness.catalog,
        harness.state,
        harness.warehouse,
        harness.operations,
        harness.clock,
        keep=KEEP,
        deliveries=harness.deliveries,
        store=harness.store,
        runs=harness.runs,
        updater=harness.resolver,
    )


async def erase(harness: Harness, **parameters: Any) -> ErasureReceipt:
    """Erase a person; return the receipt."""
    created = await harness.operations.create(harness.workspace, ErasureParameters(**parameters), None)
    return await finished(harness, created)


async def finished(harness: Harness, created: Operation) -> ErasureReceipt:
    stop = asyncio.Event()
    running = asyncio.create_task(eraser(harness).run(stop))
    try:
        async with asyncio.timeout(60):
            while True:
                operation = await harness.operations.find(created.id)
                assert operation is not None
                if operation.ended_at is not None:
                    break
                await asyncio.sleep(0.01)
    finally:
        stop.set()
        await running
    assert operation.status == "Completed", operation
    assert operation.parameters.user_id is None  # type: ignore[union-attr]
    return decode_receipt(operation.result)


def removed(receipt: ErasureReceipt) -> dict[str, int]:
    return {each.store: each.removed for each in receipt.stores}


async def send(harness: Harness, source: Connection, *events: dict[str, Any], call: str = "batch") -> None:
    await harness.send(source, json.dumps({"batch": events}).encode(), call)


def identify(user: str | None, number: int = 0, *, anonymous: str | None = None, **traits: Any) -> dict[str, Any]:
    event = {"type": "identify", "messageId": f"{user}-{anonymous}-{number}", "traits": traits}
    return event | {key: value for key, value in (("userId", user), ("anonymousId", anonymous)) if value is not None}


async def users_with_events(harness: Harness) -> list[str | None]:
    return [json.loads(document).get("userId") for document in await harness.documents()]


async def filled(harness: Harness, source: Connection) -> None:
    """Store events and identities of two persons, rejected events, devices and dead letters."""
    await send(
        harness,
        source,
        identify(None, 1, anonymous="anonymous-1"),
        identify(JANE, 1, anonymous="anonymous-1", email=EMAIL),
        identify(JANE, 2, email=EMAIL),
        identify("bob", 1, email="bob@example.com"),
        identify(None, 2, anonymous="anonymous-2"),
        {"type": "no such type", "userId": JANE, "messageId": "rejected-1"},
        {"type": "no such type", "userId": "bob", "messageId": "rejected-2"},
        {"type": "no such type", "userId": "x", "traits": {"note": f"friend of {JANE}"}},
    )
    await harness.process_log()


async def test_a_user_is_erased_with_its_anonymous_ids_and_no_other(harness: Harness, source: Connection) -> None:
    await filled(harness, source)
    counted = await erase(harness, user_id=JANE, validate_only=True)
    assert await users_with_events(harness) == [None, JANE, JANE, "bob", None]
    receipt = await erase(harness, user_id=JANE)
    assert removed(receipt) == {"events": 3, "identities": 1, "messages": 3, "profiles": 1, "rejected events": 2}
    assert {**removed(counted), "messages": 3} == removed(receipt)
    assert receipt.log_until == int((harness.clock.now() + KEEP).timestamp() * 1e6)
    assert await users_with_events(harness) == ["bob", None]
    identities, _ = await harness.state.identities(source.id, first=0, limit=10)
    assert {each.user_id for each in identities} == {"bob", None}
    rejected, _ = await harness.state.rejected(harness.workspace, connection_id=None, protocol=None, first=0, limit=9)
    assert [json.loads(each.body)["userId"] for each in rejected] == ["bob"]


async def test_an_identify_without_ids_loses_its_identity_and_keeps_its_event(
    harness: Harness, source: Connection
) -> None:
    """The email address in its traits is its identity. The stored event has no id by which it could be found."""
    await send(harness, source, identify(None, 1, email=EMAIL), identify(JANE, 1, email=EMAIL))
    await harness.process_log()
    receipt = await erase(harness, user_id=EMAIL, suppress=True)
    assert removed(receipt) == {"identities": 1, "profiles": 1}
    assert await users_with_events(harness) == [None, JANE]
    identities, _ = await harness.state.identities(source.id, first=0, limit=10)
    assert {each.user_id for each in identities} == {JANE}
    await send(harness, source, identify(None, 2, email=EMAIL), identify("bob", 1))
    await harness.process_log()
    assert await users_with_events(harness) == [None, JANE, "bob"], "further events of the address are dropped"


async def test_erasing_twice_gives_an_empty_receipt(harness: Harness, source: Connection) -> None:
    await filled(harness, source)
    await erase(harness, user_id=JANE)
    again = await erase(harness, user_id=JANE)
    assert again.stores == ()
    assert again.log_until is None


@pytest.mark.parametrize(
    "parameters",
    [
        {"user_id": "nobody"},
        {"user_id": JANE, "connection": 1},
        {"anonymous_id": "nobody"},
        {"profile": "00000000-0000-4000-8000-000000000000"},
        {"user_id": "a\0b"},
        {"user_id": ""},
    ],
    ids=str,
)
async def test_an_unknown_person_gives_an_empty_receipt(
    harness: Harness, source: Connection, parameters: dict[str, Any]
) -> None:
    await filled(harness, source)
    assert (await erase(harness, **parameters)).stores == ()
    assert len(await harness.documents()) == 5


async def test_an_anonymous_person_is_erased(harness: Harness, source: Connection) -> None:
    await filled(harness, source)
    receipt = await erase(harness, anonymous_id="anonymous-2", connection=source.id)
    assert removed(receipt) == {"events": 1, "identities": 1, "messages": 1, "profiles": 1}


@pytest.mark.parametrize("dry", [False, True])
async def test_a_connection_of_another_workspace_has_no_person(harness: Harness, source: Connection, dry: bool) -> None:
    """Nothing of the other workspace is counted, removed, searched for in rejected events, or waited for."""
    await filled(harness, source)
    other = await add_source(harness.catalog, (await add_workspace(harness.catalog, "Other")).id)
    device = {"id": "d", "token": "t", "type": "ios"}
    installed = {"type": "track", "userId": JANE, "event": "Device Created or Updated", "context": {"device": device}}
    await send(harness, other, identify(JANE, 1, email=EMAIL), installed)
    person = json.dumps({"external_id": JANE, "email": EMAIL, "data": {"plan": "pro"}}).encode()
    await harness.intake.accept(client_call(call="identify", body=person, key=other.event_write_keys[0]))
    await harness.process_log()
    before = await count_rows(harness)
    assert {"devices", "traits", "identities"} <= {table for table, number in before.items() if number}
    assert (await erase(harness, user_id=JANE, connection=other.id, validate_only=dry)).stores == ()
    assert await count_rows(harness) == before


async def count_rows(harness: Harness) -> dict[str, int]:
    """Return the numbers of rows of tables about persons."""

    def read(connection: sqlalchemy.Connection) -> dict[str, int]:
        names = ("identities", "members", "profiles", "devices", "traits", "rejected_events")
        return {name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in names}

    async with harness.state.transaction() as transaction:
        return await transaction.run(read)


@pytest.mark.parametrize("is_suppressed", [False, True])
async def test_accepted_events_do_not_bring_the_person_back(
    harness: Harness, source: Connection, is_suppressed: bool
) -> None:
    """Events that were accepted before the end have no effect, later ones only without `suppress`."""
    await filled(harness, source)
    await send(harness, source, identify(JANE, 3, email=EMAIL), identify("bob", 3))
    receipt = await erase(harness, user_id=JANE, suppress=is_suppressed)
    assert removed(receipt)["events"] == 3
    await harness.process_log()
    assert await users_with_events(harness) == ["bob", None, "bob"]
    (state,) = (await harness.state.messages([(source.id, f"{JANE}-None-3")])).values()
    assert [(step.outcome, step.message) for step in state.steps] == [("Filtered", "the person was erased")]
    await send(harness, source, identify(JANE, 4, email=EMAIL), identify("bob", 4))
    await harness.process_log()
    users = await users_with_events(harness)
    assert users[3:] == (["bob"] if is_suppressed else [JANE, "bob"])
    identities, _ = await harness.state.identities(source.id, first=0, limit=10)
    assert (JANE in {each.user_id for each in identities}) is not is_suppressed


async def test_suppressed_events_are_counted(harness: Harness, source: Connection) -> None:
    class Counts(Metrics):
        suppressed = 0

        def batch_processed(self, seconds: float, *, suppressed: int, **_: Any) -> None:
            self.suppressed += suppressed

    await erase(harness, user_id=JANE, suppress=True)
    await send(harness, source, *(identify(user, number) for user in (JANE, "bob") for number in (1, 2, 2)))
    counts, after = Counts(), await harness.state.position(CONSUMER)
    processor = BatchProcessor(CONSUMER, harness.catalog, harness.state, harness.warehouse, harness.clock, counts)
    await processor.handle(read_batch(await harness.log_entries(after)), after=after)
    assert counts.suppressed == 2


async def test_events_during_the_overwriting_do_not_bring_the_person_back(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The erasure has not ended, although nothing names the person any more."""
    await filled(harness, source)
    overwrite = harness.state.overwrite_removed

    async def send_and_overwrite() -> bool:
        await send(harness, source, identify(JANE, 5, email=EMAIL), identify("bob", 5))
        await harness.process_log()
        return await overwrite()

    monkeypatch.setattr(harness.state, "overwrite_removed", send_and_overwrite)
    await erase(harness, user_id=JANE)
    assert set(await users_with_events(harness)) == {"bob", None}
    identities, _ = await harness.state.identities(source.id, first=0, limit=10)
    assert JANE not in {each.user_id for each in identities}
    await send(harness, source, identify(JANE, 6, email=EMAIL))
    await harness.process_log()
    assert JANE in await users_with_events(harness)


async def test_a_new_process_knows_suppressed_persons(harness: Harness, source: Connection) -> None:
    await filled(harness, source)
    await erase(harness, user_id=JANE, suppress=True)
    harness.state.suppressions.forget()
    await send(harness, source, identify(JANE, 5), identify(None, 5, anonymous="anonymous-1"))
    await send(harness, source, {"type": "alias", "userId": "bob", "previousId": JANE, "messageId": "alias"})
    await harness.process_log()
    assert await users_with_events(harness) == ["bob", None]


async def test_it_continues_after_an_interruption_at_any_transaction(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(harness, source)
    created = await harness.operations.create(harness.workspace, ErasureParameters(user_id=JANE), None)
    written, left = erasure.write_note, 0
    interruptions = 0

    def failing(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Unavailable("interrupted")
        written(*arguments)

    monkeypatch.setattr(erasure, "write_note", failing)
    for number in range(1, 40):
        left = number
        operation = await harness.operations.claim("test", kinds=ERASURE_KINDS)
        assert operation is not None
        working = eraser(harness)
        working._owner = "test"
        try:
            await working.execute(operation, asyncio.Event())
            break
        except Unavailable:
            interruptions += 1
    assert interruptions > 5
    operation = await harness.operations.find(created.id)
    assert operation is not None and operation.status == "Completed"
    totals = removed(decode_receipt(operation.result))
    totals.pop("messages", None)  # on SQLite they are deleted before the transaction that counts them
    assert totals == {"events": 3, "identities": 1, "profiles": 1, "rejected events": 2}
    assert await users_with_events(harness) == ["bob", None]


async def test_a_cancelled_erasure_ends_and_can_be_repeated(harness: Harness, source: Connection) -> None:
    await filled(harness, source)
    created = await harness.operations.create(harness.workspace, ErasureParameters(user_id=JANE), None)
    operation = await harness.operations.claim("test", kinds=ERASURE_KINDS)
    assert operation is not None
    await harness.operations.cancel(created.id)
    working = eraser(harness)
    working._owner = "test"
    await working.execute(operation, asyncio.Event())
    ended = await harness.operations.find(created.id)
    assert ended is not None and ended.status == "Cancelled"
    await send(harness, source, identify(JANE, 9))
    await harness.process_log()
    assert JANE in await users_with_events(harness)
    assert removed(await erase(harness, user_id=JANE))["events"] == 4


async def test_ended_operations_that_name_the_person_are_deleted(harness: Harness, source: Connection) -> None:
    """The parameters of splits, of replays, and of erasures that were cancelled before they began have ids."""
    operations = harness.operations
    bob, jane = (SplitIdentity(connection=source.id, identity_id=each) for each in ("bob", JANE))
    condition = f'{{"property":"userId","operator":"is","values":["{JANE}"]}}'
    given: list[OperationParameters] = [
        SplitParameters(profile="a", identities=(bob, jane)),
        SplitParameters(profile="a", identities=(bob,)),
        ErasureParameters(user_id=JANE),
        ErasureParameters(anonymous_id=JANE),
        ReplayParameters(destination=1, pipeline=1, until=1, filter=f'{{"conditions":[{condition}]}}'),
        ReplayParameters(destination=1, pipeline=1, until=1),
    ]
    created = [await operations.create(harness.workspace, each, None) for each in given]
    for each in created:
        await operations.cancel(each.id)
    assert removed(await erase(harness, user_id=JANE, validate_only=True)) == {"operations": 3}
    assert removed(await erase(harness, user_id=JANE)) == {"operations": 3}
    kept = [await operations.find(each.id) is not None for each in created]
    assert kept == [False, True, False, True, False, True]


async def test_records_of_runs_are_erased(harness: Harness, source: Connection) -> None:
    """Errors are examined in parts, so there are more runs than a part has."""
    runs, kept = harness.runs, {}
    for pipeline in range(1, 2 * MAX_EXAMINED):
        run = await runs.create(RunRequest(workspace=harness.workspace, pipeline=pipeline, connection=source.id))
        kept[run.id] = pipeline
    samples = (RunErrorSample(1, JANE, "email"), RunErrorSample(2, "bob", "email"))
    while (claimed := await runs.claim(harness.workspace)) is not None:
        errors = [
            RunError(run=claimed.id, step="Finalize", message=message, count=9, first_at=1, last_at=1, samples=samples)
            for message in ("not valid", f"{JANE} is not valid")
        ]
        if kept[claimed.id] % 10 == 0:
            await runs.save(claimed.id, claimed.fence, RunProgress(), errors)
    numbers = {"run errors": 2 * (2 * MAX_EXAMINED // 10 - 1)}
    assert removed(await erase(harness, user_id=JANE, validate_only=True)) == numbers
    assert removed(await erase(harness, user_id=JANE)) == numbers
    for id_, pipeline in kept.items():
        found = await runs.errors(id_, limit=9)
        assert [(each.message, each.count, [sample.id for sample in each.samples]) for each in found] == (
            [("not valid", 9, ["bob"])] if pipeline % 10 == 0 else []
        )


async def test_an_erasure_that_fails_keeps_nothing_of_the_person(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(harness, source)

    def fail(*_arguments: Any, **_options: Any) -> int:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(erasure, "remove_devices", fail)
        created = await harness.operations.create(harness.workspace, ErasureParameters(user_id=JANE), None)
        operation = await harness.operations.claim("test", kinds=ERASURE_KINDS)
        assert operation is not None
        working = eraser(harness)
        working._owner = "test"
        await working.execute(operation, asyncio.Event())
    ended = await harness.operations.find(created.id)
    assert ended is not None and (ended.status, ended.error) == ("Failed", "internal error (RuntimeError)")
    assert await harness.state.checkpoint(f"erasure {created.id}") is None
    await send(harness, source, identify(JANE, 9))
    await harness.process_log()
    assert JANE in await users_with_events(harness), "its further events have effects"


async def interrupted(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Operation:
    """Begin an erasure of a person, which is interrupted after some steps."""
    await harness.operations.create(harness.workspace, ErasureParameters(user_id=JANE), None)
    operation = await harness.operations.claim("test", kinds=ERASURE_KINDS)
    assert operation is not None
    working = eraser(harness)
    working._owner = "test"

    def fail(*_arguments: Any, **_options: Any) -> int:
        raise Unavailable("interrupted")

    with monkeypatch.context() as patched, pytest.raises(Unavailable):
        patched.setattr(erasure, "remove_devices", fail)
        await working.execute(operation, asyncio.Event())
    assert await harness.state.checkpoint(f"erasure {operation.id}") is not None
    return operation


async def test_a_replay_that_is_executed_at_the_same_time_sends_nothing_of_the_person(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(harness, source, identify(JANE, 1), identify("ann", 1))
    await harness.process_log()
    destination = await add_destination(harness, source)
    [pipeline] = destination.pipelines
    until = microseconds(harness.clock.now()) + 1
    parameters = ReplayParameters(destination=destination.id, pipeline=pipeline.id, until=until)
    await harness.operations.create(harness.workspace, parameters, None)
    append, is_executing = harness.deliveries.append_again, harness.operations.is_executing
    waits = asyncio.Event()
    erasures: list[asyncio.Task[ErasureReceipt]] = []

    async def look(*arguments: Any) -> bool:
        waits.set()
        return await is_executing(*arguments)

    async def erase_and_append(*arguments: Any, **values: Any) -> OperationProgress:
        """Append events that were read before the erasure began."""
        monkeypatch.setattr(harness.deliveries, "append_again", append)
        erasures.append(asyncio.create_task(erase(harness, user_id=JANE)))
        await asyncio.wait((*erasures, asyncio.create_task(waits.wait())), return_when=asyncio.FIRST_COMPLETED)
        return await append(*arguments, **values)

    monkeypatch.setattr(harness.operations, "is_executing", look)
    monkeypatch.setattr(harness.deliveries, "append_again", erase_and_append)
    await execute(harness)
    await asyncio.gather(*erasures)
    assert await waiting(harness.deliveries, destination) == [(pipeline.id, "ann-None-1")]


async def test_nothing_is_kept_of_an_erasure_whose_workspace_was_deleted(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(harness, source)
    operation = await interrupted(harness, monkeypatch)
    await harness.operations.remove_workspaces([harness.workspace])
    stop = asyncio.Event()
    running = asyncio.create_task(eraser(harness).run(stop))
    async with asyncio.timeout(30):
        while await harness.state.checkpoint(f"erasure {operation.id}") is not None:
            await asyncio.sleep(0.01)
    stop.set()
    await running


async def test_a_reader_of_a_file_does_not_delay_the_end_of_the_process(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(harness, source)
    created = await harness.operations.create(harness.workspace, ErasureParameters(user_id=JANE), None)
    stop, tried = asyncio.Event(), asyncio.Event()

    async def overwrite_removed() -> bool:
        tried.set()
        return False

    with monkeypatch.context() as patched:
        patched.setattr(harness.state, "overwrite_removed", overwrite_removed)
        running = asyncio.create_task(eraser(harness).run(stop))
        async with asyncio.timeout(30):
            await tried.wait()
            stop.set()
            await running
    operation = await harness.operations.find(created.id)
    assert operation is not None and operation.status == "Running"
    assert removed(await finished(harness, created))["events"] == 3


async def test_a_profile_is_erased_with_all_its_identities(harness: Harness) -> None:
    await resolve_by_email(harness)
    source = await add_source(harness.catalog, harness.workspace, users=())
    await add_pipeline(harness, source, MAPPING)
    await send(harness, source, identify(JANE, 1, email=EMAIL), identify("j", 1, email=EMAIL), identify("bob", 1))
    await harness.process_log()
    kpids = await read_kpids(harness)
    assert kpids[JANE] == kpids["j"] != kpids["bob"]
    receipt = await erase(harness, profile=kpids["j"])
    assert removed(receipt) == {"events": 2, "identities": 2, "messages": 2, "profiles": 1}
    assert await users_with_events(harness) == ["bob"]
    assert await read_kpids(harness) == {"bob": kpids["bob"]}
    assert (await erase(harness, profile=kpids["j"])).stores == ()


async def test_an_erasure_waits_for_a_resolution_of_all_identities(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its end profiles may lack members."""
    await resolve_by_email(harness)
    source = await add_source(harness.catalog, harness.workspace, users=())
    await add_pipeline(harness, source, MAPPING)
    await send(harness, source, identify(JANE, 1, email=EMAIL), identify("j", 1, email=EMAIL))
    await harness.process_log()
    kpid = (await read_kpids(harness))["j"]
    digest = await harness.state.read_profiles(lambda rows: rows.applied(harness.workspace))
    assert digest is not None
    async with harness.state.transaction() as transaction:
        await transaction.on_profiles(lambda rows: rows.set_resolution(harness.workspace, None, None))
    created = await harness.operations.create(harness.workspace, ErasureParameters(profile=kpid), None)
    waits = 0

    async def wait(_stages: Stages, _reason: str) -> None:
        nonlocal waits
        waits += 1
        assert (await read_kpids(harness)).keys() == {JANE, "j"}
        if waits == 3:
            async with harness.state.transaction() as transaction:
                await transaction.on_profiles(lambda rows: rows.set_resolution(harness.workspace, digest, None))

    monkeypatch.setattr(Stages, "_wait", wait)
    assert removed(await finished(harness, created))["profiles"] == 1
    assert waits == 3
    assert await read_kpids(harness) == {}


async def test_a_profile_keeps_identities_that_are_not_erased(harness: Harness) -> None:
    await resolve_by_email(harness)
    source = await add_source(harness.catalog, harness.workspace, users=())
    await add_pipeline(harness, source, MAPPING)
    await send(harness, source, identify(JANE, 1, email=EMAIL), identify("j", 1, email=EMAIL))
    await harness.process_log()
    before = await read_kpids(harness)
    assert removed(await erase(harness, user_id=JANE)) == {"events": 1, "identities": 1, "messages": 1}
    assert await read_kpids(harness) == {"j": before["j"]}


async def test_the_history_of_a_profile_is_counted_before_as_at_the_end(harness: Harness) -> None:
    """Aliases, merges and splits count if the profile goes with the person, and only then."""
    await resolve_by_email(harness)
    source = await add_source(harness.catalog, harness.workspace, users=())
    await add_pipeline(harness, source, MAPPING)
    for events in ([identify(JANE, 1, email=EMAIL)], [identify("j", 1)], [identify("j", 2, email=EMAIL)]):
        await send(harness, source, *events)
        await harness.process_log()
    kpid = (await read_kpids(harness))["j"]
    assert removed(await erase(harness, user_id="j", validate_only=True)) == {"events": 2, "identities": 1}
    counted = removed(await erase(harness, profile=kpid, validate_only=True))
    assert counted == {"events": 3, "identities": 2, "profiles": 1, "profile history": 2}
    assert removed(await erase(harness, profile=kpid)) == {**counted, "messages": 3}


async def read_kpids(harness: Harness) -> dict[str, str]:
    """Return the kpid of each user."""

    def read(rows: ResolutionRows) -> dict[str, str]:
        profiles = rows.profiles(range(1, 100))
        return {
            member.name.identity_id: UUID(bytes=profile.kpid).hex
            for profile in profiles
            for member in rows.find_members([profile.id])
        }

    async with harness.state.transaction() as transaction:
        return await transaction.on_profiles(read)


async def test_results_of_functions_that_wait_do_not_bring_the_person_back(harness: Harness) -> None:
    source = await add_source(harness.catalog, harness.workspace, users=())
    await add_pipeline(harness, source, COPY)
    await send(harness, source, identify(JANE, 1, email=EMAIL), identify("bob", 1, email="bob@example.com"))
    await harness.process_log()
    stop = asyncio.Event()
    working = asyncio.create_task(harness.courier.run(stop))
    async with asyncio.timeout(30):
        while await harness.store.unapplied_bytes(0) == 0:
            await asyncio.sleep(0.01)
    stop.set()
    await working
    created = await harness.operations.create(harness.workspace, ErasureParameters(user_id=JANE), None)
    erasing = asyncio.create_task(finished(harness, created))
    applier = ResultApplier(harness.catalog, harness.state, harness.store, harness.clock, profiles=harness.resolver)
    async with asyncio.timeout(30):
        while not erasing.done():
            if await harness.state.checkpoint(f"erasure {created.id}") is not None:
                await applier.apply()
            await asyncio.sleep(0.01)
    assert removed(await erasing)["events"] == 1
    identities, _ = await harness.state.identities(source.id, first=0, limit=10)
    assert {each.user_id for each in identities} == {"bob"}
    if harness.database_url is None:
        assert EMAIL.encode() not in (harness.folder / "courier.db").read_bytes()
