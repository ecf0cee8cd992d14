"""Preparing events: the form that the destination gets, or step, reason and text of each rejection."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from headwater.catalog import Definition, FunctionDefinition, Pipeline, TransformationDefinition
from headwater.connectors.contract import (
    BatchLimits,
    EncodedEvent,
    EventRejected,
    EventSink,
    EventType,
    OutgoingEvent,
    SinkPolicy,
)
from headwater.delivery import preparing
from headwater.delivery.preparing import (
    DeliveryKeys,
    FunctionTransformation,
    PreparationDelayed,
    Prepared,
    Preparer,
    Rejected,
    SourceEvent,
    compile_preparer,
)
from headwater.events.record import event_record
from headwater.schemas import (
    EVENT_SCHEMA,
    Codec,
    IntType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    Record,
    Schema,
    StringType,
    all_optional,
    serialise,
)
from headwater.transforms.functions import Function, FunctionFailed, Outcome, RecordError, Runner
from tests.connectors.conformance.context import NOW, FixedClock
from tests.events.contexts import contexts
from tests.events.test_record import make_stored
from tests.jsontexts import json_values

TEXT = StringType(max_length=20)
ORDER = ObjectType(
    (
        Property("name", TEXT, create_required=True),
        Property("email", TEXT),
        Property("items", IntType(16)),
        Property("more", MapType(JsonType())),
    )
)
EVENT_TYPES = (
    EventType(id="order", name="Order", description="", filter="", schema=ORDER),
    EventType(id="ping", name="Ping", description="", filter="", schema=None),
)
MAPPING = {"name": "event", "email": "traits.email", "items": "properties.items", "more": "properties"}


class Sink:
    """A sink whose form of an event is JSON."""

    def __init__(self, **policy: Any) -> None:
        self.policy = SinkPolicy(**policy)
        self.encoded: list[OutgoingEvent] = []

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        self.encoded.append(event)
        if event.user_id == "refused":
            raise EventRejected("NoConsent", "the user is refused")
        if event.user_id == "bug":
            raise KeyError("secret")
        values = Codec(all_optional(ORDER)).encode(event.values)
        return EncodedEvent(id=event.key, body=values, user=event.user_id)


def document(**members: Any) -> bytes:
    """Return a canonical document."""
    time = NOW.isoformat().replace("+00:00", "Z")
    event = {
        "connectionId": 7,
        "messageId": "m-1",
        "type": "track",
        "userId": "u-1",
        "event": "Order Completed",
        "properties": {"items": 2},
        "traits": {"email": "ada@example.com"},
        **dict.fromkeys(("timestamp", "originalTimestamp", "sentAt", "receivedAt"), time),
        **members,
    }
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def pipeline(event_type: str = "order", schema: Schema | None = ORDER, **transformation: Any) -> Pipeline:
    return Pipeline(
        id=5,
        workspace=1,
        connection=9,
        name="P",
        target="Event",
        enabled=True,
        created_at=NOW,
        event_type=event_type,
        definition=Definition(
            out_schema=None if schema is None else serialise(schema).decode(),
            transformation=TransformationDefinition(**transformation) if transformation else None,
        ),
    )


async def compiled(
    definition: Pipeline, sink: Sink | None = None, functions: object = None, clock: FixedClock | None = None
) -> Preparer:
    return await compile_preparer(
        definition, cast(EventSink, sink or Sink()), EVENT_TYPES, cast(Runner, functions), clock or FixedClock()
    )


async def one(definition: Pipeline, text: bytes, sink: Sink | None = None) -> Prepared:
    [result] = await (await compiled(definition, sink)).prepare([SourceEvent(text)])
    return result


async def test_an_event_gets_its_values_and_its_form() -> None:
    sink = Sink()
    text = document(anonymousId="a-1")
    preparer = await compiled(pipeline(mapping=MAPPING), sink)
    source = SourceEvent(text)
    [result] = await preparer.prepare([source])
    assert isinstance(result, EncodedEvent)
    assert json.loads(result.body) == {
        "name": "Order Completed",
        "email": "ada@example.com",
        "items": 2,
        "more": {"items": 2},
    }
    [outgoing] = sink.encoded
    assert result.id == outgoing.key == preparer.key(source)
    assert msgspec.structs.replace(outgoing, values={}, key="") == OutgoingEvent(
        key="",
        message_id="m-1",
        source=7,
        type="track",
        event_type="order",
        timestamp=NOW,
        received_at=NOW,
        document=text,
        user_id="u-1",
        anonymous_id="a-1",
    )


async def test_an_event_type_without_schema_is_sent_without_values() -> None:
    sink = Sink()
    assert isinstance(await one(pipeline("ping", None), document(userId=None, anonymousId="a"), sink), EncodedEvent)
    assert (sink.encoded[0].values, sink.encoded[0].user_id, sink.encoded[0].anonymous_id) == ({}, "", "a")


WIDER = replace(ORDER, properties=(Property("name", StringType(), create_required=True),))
OTHER_NAME = ObjectType((Property("title", TEXT),))


@pytest.mark.parametrize(
    ("definition", "members", "step", "reason", "text"),
    [
        (pipeline(mapping=MAPPING), {"event": "x" * 21}, "OutputValidation", "InvalidOutput", "«event» for «name»"),
        (pipeline(mapping=MAPPING), {"properties": 5}, "Transformation", "TransformationFailed", "«properties.items»"),
        (pipeline(mapping=MAPPING), {"event": None}, "OutputValidation", "InvalidOutput", "name is required"),
        (pipeline(mapping=MAPPING), {"userId": "refused"}, "Finalize", "NoConsent", "the user is refused"),
        (pipeline(mapping=MAPPING), {"userId": "bug"}, "Finalize", "InternalError", "internal error (KeyError)"),
        (pipeline("nothing", mapping=MAPPING), {}, "OutputValidation", "EventTypeNotExist", '"nothing" does not exist'),
        (
            pipeline(schema=WIDER, mapping={"name": "event"}),
            {},
            "OutputValidation",
            "SchemaNotAligned",
            "type of property name",
        ),
        (pipeline(schema=OTHER_NAME, mapping={"title": "event"}), {}, "OutputValidation", "SchemaNotAligned", "title"),
        (pipeline(schema=None), {}, "OutputValidation", "SchemaNotAligned", "name is now required"),
        (pipeline("ping", mapping=MAPPING), {}, "OutputValidation", "SchemaNotAligned", "name no longer exists"),
        (pipeline(mapping={"name": "now()"}), {}, "Transformation", "PipelineInvalid", "now"),
    ],
)
async def test_rejections(definition: Pipeline, members: dict[str, Any], step: str, reason: str, text: str) -> None:
    result = await one(definition, document(**members))
    assert isinstance(result, Rejected), result
    assert (result.step, result.reason) == (step, reason)
    assert text in result.message
    assert "secret" not in result.message


@pytest.mark.parametrize("text", [b"", b"[]", b'{"messageId":"m"}', b"\xff", b"[" * 100_000])
async def test_a_document_that_cannot_be_read_is_one_rejection(text: bytes) -> None:
    preparer = await compiled(pipeline(mapping=MAPPING))
    results = await preparer.prepare([SourceEvent(document()), SourceEvent(text), SourceEvent(document())])
    assert [isinstance(result, EncodedEvent) for result in results] == [True, False, True]
    assert isinstance(results[1], Rejected)
    assert results[1].reason in ("InternalError", "TooDeep")


async def test_the_limit_of_an_event_is_that_of_the_destination() -> None:
    sink = Sink(limits=BatchLimits(max_event_bytes=60))
    result = await one(pipeline(mapping={"name": "event"}), document(), sink)
    assert isinstance(result, EncodedEvent)
    result = await one(pipeline(mapping=MAPPING), document(), sink)
    assert result == Rejected("Finalize", "EventTooLarge", "the event has 81 bytes, and the destination accepts 60")


@pytest.mark.parametrize(
    ("age", "reason", "rule"),
    [
        (72 * 3_600, None, ""),
        (72 * 3_600 + 1, "EventTooOld", "the last 72 hours"),
        (-300, None, ""),
        (-301, "EventInFuture", "up to 5 minutes in the future"),
    ],
)
async def test_an_event_has_an_age_at_which_it_is_accepted(age: int, reason: str | None, rule: str) -> None:
    clock = FixedClock(NOW + timedelta(seconds=age))
    sink = Sink(max_age_seconds=72 * 3_600, max_future_seconds=300)
    [result] = await (await compiled(pipeline(mapping=MAPPING), sink, clock=clock)).prepare([SourceEvent(document())])
    assert (result.reason if isinstance(result, Rejected) else None) == reason
    if isinstance(result, Rejected):
        at = SourceEvent(document()).event.timestamp
        assert f"{at:%Y-%m-%d %H:%M:%S} UTC" in result.message and result.message.endswith(rule)


_ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.integers(), st.text(max_size=30), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


@given(st.lists(st.tuples(_ODD, _ODD, st.sampled_from(["u", "refused", "bug"])), max_size=6))
def test_events_are_independent_and_values_conform_to_the_schema(odd: list[tuple[Any, Any, str]]) -> None:
    texts = [document(properties={"items": items}, traits={"email": email}, userId=user) for items, email, user in odd]

    async def run() -> None:
        sink = Sink()
        preparer = await compiled(pipeline(mapping=MAPPING), sink)
        together = await preparer.prepare([SourceEvent(text) for text in texts])
        assert together == [(await preparer.prepare([SourceEvent(text)]))[0] for text in texts]
        for outgoing in sink.encoded:
            Codec(all_optional(ORDER)).check(outgoing.values)

    asyncio.run(run())


async def test_other_tasks_run_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_SLICE_SECONDS", 0.0)
    preparer = await compiled(pipeline(mapping=MAPPING))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await preparer.prepare([SourceEvent(document())] * 50)
    ticking.cancel()
    assert ticks >= 50


def test_an_event_is_decoded_once() -> None:
    source = SourceEvent(document())
    assert source.event is source.event
    assert source.record is source.record
    Codec(EVENT_SCHEMA).check(source.record)


_MEMBERS = [
    "connectionId",
    "receivedAt",
    "messageId",
    "groupId",
    "name",
    "kpid",
    "integrations",
    "other",
    "objectTypeId",
]


@given(contexts(), st.dictionaries(st.sampled_from(_MEMBERS), st.one_of(json_values, st.text(max_size=3)), max_size=3))
def test_the_record_is_that_of_the_worker(context: dict[str, Any], members: dict[str, Any]) -> None:
    """Filters run in the worker on the event itself, and transformations here on its document."""
    text = json.dumps({**members, "type": "track", "event": "e", "userId": "u", "context": context})
    try:
        event, stored = make_stored(text)
    except AssertionError:  # the intake rejects it
        reject()
    assert SourceEvent(stored).event == event
    assert SourceEvent(stored).record == event_record(event)


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.text(max_size=20))
def test_keys_depend_on_pipeline_source_and_message(id_: int, source: int, message: str) -> None:
    event = SourceEvent(document()).event
    event.connection_id, event.message_id = source, message
    key = DeliveryKeys(id_).of(event)
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")
    assert DeliveryKeys(id_).of(event) == key
    assert DeliveryKeys(id_ + 1).of(event) != key
    event.connection_id = source + 1
    assert DeliveryKeys(id_).of(event) != key
    event.connection_id, event.message_id = source, message + "x"
    assert DeliveryKeys(id_).of(event) != key


def test_a_key_never_changes() -> None:
    """Destinations recognise repetitions by it, also those that a later version sends."""
    assert DeliveryKeys(5).of(SourceEvent(document()).event) == "8c4e37e19126d9e4307936e6c175eff6"


class InProcessRunner:
    """Runs a function in Python: a result that is FunctionFailed fails the whole run."""

    def __init__(self, function: Callable[[Record], Outcome | FunctionFailed]) -> None:
        self._function = function
        self.runs: list[list[str]] = []

    async def stream(
        self, _function: Function, records: Sequence[Record], *_schemas: object, purpose: str
    ) -> Iterator[Outcome]:
        assert purpose == "Create"
        self.runs.append([str(record["messageId"]) for record in records])
        outcomes = [self._function(record) for record in records]
        for outcome in outcomes:
            if isinstance(outcome, FunctionFailed):
                raise outcome
        return iter(cast(list[Outcome], outcomes))


FUNCTION = FunctionDefinition(
    language="JavaScript", source="function transform(event) {}", in_paths=("event",), out_paths=("name",)
)
LOOPS = FunctionFailed("it takes longer than 2 s")


def looping(*messages: str) -> Callable[[Record], Outcome | FunctionFailed]:
    return lambda record: LOOPS if record["messageId"] in messages else {"name": str(record["messageId"])}


def sources(count: int) -> list[SourceEvent]:
    return [SourceEvent(document(messageId=f"m{number}")) for number in range(count)]


async def prepare_all(preparer: Preparer, events: list[SourceEvent]) -> list[Prepared]:
    results: list[Prepared] = []
    while len(results) < len(events):
        results += await preparer.prepare(events[len(results) :])
    return results


async def test_a_function_gets_more_events_while_it_is_quick() -> None:
    runner = InProcessRunner(looping())
    results = await prepare_all(await compiled(pipeline(function=FUNCTION), functions=runner), sources(600))
    assert [json.loads(result.body)["name"] for result in results if isinstance(result, EncodedEvent)] == [
        f"m{number}" for number in range(600)
    ]
    assert list(map(len, runner.runs)) == [16, 32, 64, 128, 256, 104]


async def test_a_run_has_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "MAX_RUN_BYTES", 3 * len(document(messageId="m0")) + 5)
    runner = InProcessRunner(looping())
    await prepare_all(await compiled(pipeline(function=FUNCTION), functions=runner), sources(10))
    assert list(map(len, runner.runs)) == [3, 3, 3, 1]


async def test_only_an_event_that_reaches_a_limit_alone_and_twice_is_rejected() -> None:
    runner = InProcessRunner(looping("m3"))
    results = await prepare_all(await compiled(pipeline(function=FUNCTION), functions=runner), sources(8))
    rejected = Rejected("Transformation", "FunctionFailed", LOOPS.message)
    assert [result for result in results if isinstance(result, Rejected)] == [rejected]
    assert results[3] == rejected
    assert runner.runs.count(["m3"]) == 2


async def test_a_limit_that_is_reached_once_rejects_nothing() -> None:
    outcomes: Iterator[Outcome | FunctionFailed] = iter([LOOPS, {"name": "x"}])
    runner = InProcessRunner(lambda record: next(outcomes))
    results = await prepare_all(await compiled(pipeline(function=FUNCTION), functions=runner), sources(1))
    assert isinstance(results[0], EncodedEvent)


async def test_a_function_that_keeps_failing_is_paused() -> None:
    now = 1_000.0
    outcomes: Iterator[Outcome | FunctionFailed] = iter(())
    runner = InProcessRunner(lambda record: next(outcomes, LOOPS))
    function = FunctionTransformation(cast(Runner, runner), FUNCTION.function(owner="x"), ORDER, lambda: now)
    preparer = Preparer(5, "order", cast(EventSink, Sink()), function, FixedClock())
    events = sources(10)
    for pause in (10, 20, 40, 80, 160, 300, 300):
        with pytest.raises(PreparationDelayed, match="longer than 2 s") as caught:
            while True:
                del events[: len(await preparer.prepare(events))]
        assert caught.value.seconds == pause
        runs = len(runner.runs)
        with pytest.raises(PreparationDelayed):
            await preparer.prepare(events)
        assert len(runner.runs) == runs, "nothing runs during a pause"
        now += pause
        assert events
    outcomes = iter([{"name": "x"}])
    assert len(await preparer.prepare(events)) == 1, "after a pause one event is tried"


async def test_errors_of_records_are_rejections_of_these() -> None:
    error = RecordError("OutputValidation", "name must be a text", 3)
    runner = InProcessRunner(lambda record: error if record["messageId"] == "m1" else {"name": "x"})
    results = await prepare_all(await compiled(pipeline(function=FUNCTION), functions=runner), sources(3))
    assert results[1] == Rejected("OutputValidation", "InvalidOutput", "name must be a text (line 3)")
    assert isinstance(results[0], EncodedEvent) and isinstance(results[2], EncodedEvent)


async def test_an_event_without_a_record_does_not_stop_a_function() -> None:
    events = sources(4)
    events[2] = SourceEvent(b"{}")
    results = await prepare_all(
        await compiled(pipeline(function=FUNCTION), functions=InProcessRunner(looping())), events
    )
    assert [isinstance(result, Rejected) for result in results] == [False, False, True, False]


SOURCES = {
    "JavaScript": "function transform(event) { if (event.event == 'bad') throw 'no'; return {name: event.event} }",
    "Python": "def transform(event):\n    return {'name': {'bad': None}.get(event['event'], event['event'])}",
}


@pytest.mark.process
@pytest.mark.parametrize("language", SOURCES)
async def test_functions_run_in_sandboxes(language: str) -> None:
    definition = msgspec.structs.replace(FUNCTION, language=language, source=SOURCES[language])
    async with Runner(javascript=1, python=1) as runner:
        preparer = await compiled(pipeline(function=definition), functions=runner)
        names = ["good", "bad", "fine", "x" * 21]
        results = await preparer.prepare([SourceEvent(document(event=name)) for name in names])
    assert [json.loads(result.body)["name"] for result in results if isinstance(result, EncodedEvent)] == [
        "good",
        "fine",
    ]
    assert isinstance(results[1], Rejected) and isinstance(results[3], Rejected)
    assert results[3].step == "OutputValidation"


async def test_without_events_nothing_runs() -> None:
    runner = InProcessRunner(looping())
    assert await (await compiled(pipeline(function=FUNCTION), functions=runner)).prepare([]) == []
    assert runner.runs == []
