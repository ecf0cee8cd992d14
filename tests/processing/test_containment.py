"""An error affects one event, one pipeline, one workspace: errors of events, functions and databases in a batch."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from headwater.base.metrics import Metrics
from headwater.catalog import Connection, FunctionDefinition, TransformationDefinition
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.processing.lanes import ResultApplier
from headwater.processing.processor import MAX_ISOLATED, BatchProcessor
from headwater.schemas import parse_schema
from headwater.state import MessageStates, StateStore, Transaction
from headwater.storage.database import open_engine, sqlite_url
from tests.examples import examples
from tests.harness import Harness, add_source, add_workspace, open_harness
from tests.processing.test_lanes import COPY, IDENTIFY, MAPPING, add_pipeline, identify, identities, new_source, steps


class Failures(Metrics):
    """Counts calls that must not happen."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.isolated = 0

    def batch_failed(self, error: str) -> None:
        self.errors.append(error)

    def events_isolated(self, events: int) -> None:
        self.isolated += events


async def process(harness: Harness, *sent: tuple[Connection, list[dict[str, Any]]]) -> Failures:
    """Send events of several sources, and process all of them in one batch."""
    failures = Failures()
    for source, events in sent:
        await harness.send(source, json.dumps({"batch": events}).encode())
    processor = BatchProcessor(CONSUMER, harness.catalog, harness.state, harness.warehouse, harness.clock, failures)
    after = await harness.state.position(CONSUMER)
    await processor.handle(read_batch(await harness.log_entries(after)), after=after)
    return failures


async def two_sources(harness: Harness) -> tuple[Connection, Connection]:
    """A source of each of two workspaces, with an Event and a User pipeline."""
    other = await add_workspace(harness.catalog, "Other")
    return await add_source(harness.catalog, harness.workspace), await add_source(harness.catalog, other.id)


# --- Errors of the database -----------------------------------------------------------------------------------------


@asynccontextmanager
async def refusing(harness: Harness, table: str, condition: str) -> AsyncIterator[None]:
    """The database rejects rows of a table, as for a bug in a statement or a value that it cannot store."""
    store = "warehouse" if table == "events" else "state"
    engine = open_engine(harness.database_url or sqlite_url(harness.folder / f"{store}.db"), schema=store)
    sqlite = harness.database_url is None
    if sqlite and table == "events":
        table = "event_rows"
    body = "BEGIN SELECT RAISE(ABORT, 'refused'); END"
    statements = [f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) {body}"]
    if not sqlite:
        statements = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN IF {condition} THEN RAISE 'refused'; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
        ]
    try:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
        yield
        async with engine.begin() as connection:
            await connection.exec_driver_sql("DROP TRIGGER refuse" if sqlite else "DROP FUNCTION refuse CASCADE")
    finally:
        await engine.dispose()


async def test_an_event_whose_effects_the_database_rejects_is_stored_without_them(harness: Harness) -> None:
    a, b = await two_sources(harness)
    async with refusing(harness, "identities", "NEW.identity_id = 'poison'"):
        failures = await process(
            harness,
            (a, [identify("before", ""), identify("poison", ""), identify("after", "")]),
            (b, [identify("b", "")]),
        )
    assert len(failures.errors) == 1
    assert failures.isolated == 1
    assert len(await harness.documents()) == 3, "the poisonous event is stored, too"
    outcomes = {
        user: [step.outcome for step in await user_steps(harness, a, user)] for user in ("before", "poison", "after")
    }
    assert outcomes == {"before": ["Passed"], "poison": ["Failed"], "after": ["Passed"]}
    assert [step.outcome for step in await user_steps(harness, b, "b")] == ["Passed"]
    rows, _ = await harness.state.rejected(harness.workspace, connection_id=None, protocol=None, first=0, limit=10)
    assert rows == []


async def test_an_event_that_cannot_be_stored_at_all_is_kept_as_rejected(harness: Harness) -> None:
    a, b = await two_sources(harness)
    async with refusing(harness, "events", "CAST(NEW.document AS TEXT) LIKE '%poison%'"):
        failures = await process(harness, (a, [identify("poison", ""), identify("u", "")]), (b, [identify("b", "")]))
    assert failures.isolated == 1
    assert len(await harness.documents()) == 1
    rows, _ = await harness.state.rejected(harness.workspace, connection_id=None, protocol=None, first=0, limit=10)
    assert [(row.code, row.message_id) for row in rows] == [("InternalServerError", "poison")]
    assert [step.outcome for step in await user_steps(harness, b, "b")] == ["Passed"]


async def test_a_single_poisonous_event_does_not_wait_for_another_one(harness: Harness) -> None:
    [a, _] = await two_sources(harness)
    async with refusing(harness, "identities", "NEW.identity_id = 'poison'"):
        await process(harness, (a, [identify("poison", "")]))
    assert len(await harness.documents()) == 1


async def test_a_flood_of_poisonous_events_is_isolated_in_few_steps(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work does not grow with their number, and other workspaces' events have all their effects."""
    a, b = await two_sources(harness)
    begun = 0
    transaction = StateStore.transaction

    def counted(self: StateStore) -> Any:
        nonlocal begun
        begun += 1
        return transaction(self)

    monkeypatch.setattr(StateStore, "transaction", counted)
    poison = [identify(f"poison{number}", "") for number in range(200)]
    async with refusing(harness, "identities", "NEW.identity_id LIKE 'poison%'"):
        await process(harness, (a, poison), (b, [identify("b", "")]))
    assert len(await harness.documents()) == 200
    assert begun < 4 * MAX_ISOLATED * 8 + 220, "a search by halving for each of a few, and one trial for each event"
    assert [step.outcome for step in await user_steps(harness, b, "b")] == ["Passed"]


async def user_steps(harness: Harness, source: Connection, message_id: str) -> list[Any]:
    """The steps of a message in the User pipelines of a source."""
    [entry] = (await harness.state.messages([(source.id, message_id)])).values()
    stores = {pipeline.id for pipeline in source.pipelines if pipeline.target == "Event"}
    return [step for step in entry.steps if step.pipeline not in stores]


async def test_a_pipeline_whose_compilation_has_a_bug_fails_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await two_sources(harness)
    await add_pipeline(harness, a, None, filter=IDENTIFY)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("headwater.processing.plans.check_filter", fail)
    failures = await process(harness, (a, [identify("a", "")]), (b, [identify("b", "")]))
    assert failures.errors == []
    assert len(await harness.documents()) == 1
    outcomes = [(step.step, step.outcome) for step in await user_steps(harness, a, "a")]
    assert sorted(outcomes) == [("Filter", "Failed"), ("Finalize", "Passed")]


async def test_events_that_fail_only_together_do_not_stop_the_log(harness: Harness) -> None:
    a, b = await two_sources(harness)
    together = "NEW.identity_id LIKE 'q%' AND EXISTS (SELECT 1 FROM identities WHERE identity_id LIKE 'p%')"
    users = ["p1", "x", "p2", "y", "q1", "z", "q2", "w"]
    async with refusing(harness, "identities", together):
        await process(harness, (a, [identify(user, "") for user in users]), (b, [identify("b", "")]))
    outcomes = {user: [step.outcome for step in await user_steps(harness, a, user)] for user in users}
    assert outcomes == {user: ["Failed" if user.startswith("q") else "Passed"] for user in users}
    assert [step.outcome for step in await user_steps(harness, b, "b")] == ["Passed"]


async def run_courier(harness: Harness, results: int) -> None:
    """Run the courier until there are so many stored results."""
    stop = asyncio.Event()
    courier = asyncio.create_task(harness.courier.run(stop))
    async with asyncio.timeout(30):
        while len(await harness.store.results(0, max_bytes=1 << 20)) < results:
            await asyncio.sleep(0.01)
    stop.set()
    await courier


async def test_a_single_result_that_cannot_be_applied_fails_alone(harness: Harness) -> None:
    source = await new_source(harness)
    await add_pipeline(harness, source, COPY)
    await process(harness, (source, [identify("poison", "")]))
    await run_courier(harness, 1)
    async with refusing(harness, "identities", "NEW.identity_id = 'poison'"):
        assert await ResultApplier(harness.catalog, harness.state, harness.store, harness.clock).apply() == 1
    assert [step.outcome for step in await steps(harness, source, "poison")] == ["Failed"]
    assert await harness.state.lanes() == []


async def test_no_result_fails_for_a_fault_of_the_system(harness: Harness) -> None:
    source = await new_source(harness)
    pipelines = [await add_pipeline(harness, source, COPY) for _ in range(2)]
    await process(harness, (source, [identify("a", ""), identify("b", "")]))
    await run_courier(harness, 2)
    applier = ResultApplier(harness.catalog, harness.state, harness.store, harness.clock)
    async with refusing(harness, "identities", "NEW.identity_id <> ''"):
        with pytest.raises(DBAPIError):
            await applier.apply()
    assert [step.outcome for step in await steps(harness, source, "a")] == ["Pending", "Pending"]
    assert await applier.apply() == 4
    for pipeline in pipelines:
        assert len(await identities(harness, pipeline)) == 2


async def test_many_small_results_are_one_write_of_messages(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would wait for the disk, while the worker waits for the transaction."""
    source = await new_source(harness)
    for _ in range(3):
        await add_pipeline(harness, source, COPY)
    await process(harness, (source, [identify("u", "u@x")]))
    await run_courier(harness, 3)
    record, calls = Transaction.save, []

    async def counted(self: Transaction, entries: MessageStates) -> None:
        calls.append(len(entries))
        await record(self, entries)

    monkeypatch.setattr(Transaction, "save", counted)
    assert await ResultApplier(harness.catalog, harness.state, harness.store, harness.clock).apply() == 3
    assert calls == [1]
    assert [step.outcome for step in await steps(harness, source, "u")] == ["Passed"] * 3


# --- Content of events and results of functions ---------------------------------------------------------------------

ANYTHING = parse_schema(
    '{"kind":"object","properties":['
    '{"name":"value","type":{"kind":"json"},"readOptional":true},'
    '{"name":"map","type":{"kind":"map","elementType":{"kind":"json"}},"readOptional":true},'
    '{"name":"text","type":{"kind":"string"},"readOptional":true},'
    '{"name":"number","type":{"kind":"float","bitSize":64},"readOptional":true}]}'
)
RETURNED = {
    "JavaScript": [
        "({value: 1})",
        "((n) => { let v = []; for (let i = 0; i < n; i++) v = [v]; return {value: v} })(3000)",
        "((n) => { let v = 1; for (let i = 0; i < n; i++) v = {a: v}; return {value: v} })(20000)",
        "({map: {'a\\ud800': 'v'}})",
        "({text: '\\ud800'})",
        "({value: '\\udfff\\ud800'})",
        "(() => { const v = {}; v.v = v; return {value: v} })()",
        "({number: 1e999, value: -1e999})",
        "({value: NaN})",
        "({value: 10n ** 5000n})",
        "({text: 'x'.repeat(3000000)})",
        "({value: Array(100000).fill('x'.repeat(20))})",
        "({get value() { throw new Error('\\ud800') }})",
        "(() => { throw {toString() { throw 1 }} })()",
        "(() => { throw new Error('\\udc00 half') })()",
        "null",
        "undefined",
        "Symbol('x')",
        "Promise.resolve({})",
        "new Proxy({}, {ownKeys() { throw new Error('no') }})",
        "(() => { const f = () => f(); return f() })()",
    ],
    "Python": [
        "{'value': 1}",
        "{'value': deep(3000)}",
        "{'map': {'a\\ud800': 'v'}}",
        "{'text': '\\ud800'}",
        "{'number': float('inf')}",
        "{'value': float('nan')}",
        "{'value': 10 ** 5000}",
        "{'text': 'x' * 3000000}",
        "{'value': cycle()}",
        "{1: 2}",
        "{'value': {1: 2}}",
        "None",
        "[]",
        "1 / 0",
        "fail('\\udc00 half')",
    ],
}
PYTHON_HELPERS = """
def deep(n):
    v = []
    for _ in range(n):
        v = [v]
    return v

def cycle():
    v = []
    v.append(v)
    return v

def fail(text):
    raise ValueError(text)

"""


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
async def test_whatever_a_function_returns_fails_its_record_only(harness: Harness, language: str) -> None:
    a, b = await two_sources(harness)
    expressions = RETURNED[language]
    if language == "JavaScript":
        cases = "\n".join(f"case 'u{number}': return {each};" for number, each in enumerate(expressions))
        source = f"function transform(e) {{ switch (e.userId) {{ {cases} }} }}"
    else:
        cases = "".join(
            f"    if e['userId'] == 'u{number}': return {each}\n" for number, each in enumerate(expressions)
        )
        source = f"{PYTHON_HELPERS}def transform(e):\n{cases}"
    definition = FunctionDefinition(
        language=language, source=source, in_paths=("userId",), out_paths=("value", "map", "text", "number")
    )
    pipelines = [
        await add_pipeline(harness, each, TransformationDefinition(function=definition), out_schema=ANYTHING)
        for each in (a, b)
    ]
    events = [identify(f"u{number}", "") for number in range(len(expressions))]
    failures = await process(harness, (a, events), (b, [identify("u0", "")]))
    await harness.drain_lanes()
    assert failures.errors == []
    assert len(await harness.documents()) == len(events)
    outcomes = {}
    for number in range(len(expressions)):
        [step] = [step for step in await steps(harness, a, f"u{number}") if step.pipeline == pipelines[0]]
        outcomes[expressions[number]] = step
    assert outcomes[expressions[0]].outcome == "Passed"
    assert {step.outcome for step in outcomes.values()} == {"Passed", "Failed"}
    for expression, step in outcomes.items():
        if step.outcome == "Failed":
            assert step.message, expression
            assert "internal error" not in step.message, (expression, step.message)
    [good] = [step for step in await steps(harness, b, "u0") if step.pipeline == pipelines[1]]
    assert good.outcome == "Passed"


texts = st.text(alphabet=st.characters(codec=None), max_size=20) | st.sampled_from(["\ud800", "\0", "9" * 5000])
nasty: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.just(int("9" * 4000))
    | st.just([[[[[[[[[[[]]]]]]]]]]]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=st.lists(st.lists(nasty, min_size=1, max_size=6), min_size=1, max_size=3))
def test_whatever_events_hold_every_accepted_one_is_stored(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Any]]
) -> None:
    """Through mappings and functions of both languages, without a batch that fails."""
    asyncio.run(store(tmp_path_factory.mktemp("nasty"), batches))


async def store(folder: Path, batches: list[list[Any]]) -> None:
    async with open_harness(folder) as harness:
        a, b = await two_sources(harness)
        for language, source in (
            ("JavaScript", "function transform(e) { return {value: e.traits.email, text: String(e.traits.email)} }"),
            ("Python", "def transform(e):\n    return {'value': e['traits'].get('email')}"),
        ):
            definition = FunctionDefinition(
                language=language, source=source, in_paths=("traits",), out_paths=("value", "map", "text", "number")
            )
            await add_pipeline(harness, a, TransformationDefinition(function=definition), out_schema=ANYTHING)
        everything = {"value": "traits", "text": "traits.email", "number": "traits.email", "map": "traits.email"}
        await add_pipeline(harness, a, TransformationDefinition(mapping=everything), out_schema=ANYTHING)
        await add_pipeline(harness, b, MAPPING)
        sent = 0
        for number, values in enumerate(batches):
            events = [
                {"type": "identify", "userId": "u", "messageId": f"{number}-{index}", "traits": {"email": value}}
                for index, value in enumerate(values)
            ]
            sent += len(events)
            good = f"b{number}"
            failures = await process(harness, (a, events), (b, [identify("b", "b@x", messageId=good)]))
            await harness.drain_lanes()
            assert failures.errors == []
            assert {step.outcome for step in await steps(harness, b, good)} == {"Passed"}
        counts = await harness.state.rejection_counts(harness.workspace, connection_id=None)
        assert not [count for count in counts if count.code == "InternalServerError"]
        assert len(await harness.documents()) + sum(count.count for count in counts) == sent
