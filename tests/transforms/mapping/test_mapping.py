"""Mappings as a whole: inputs, outputs, and errors of single records."""

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headwater.base.errors import BadRequest, Unprocessable
from headwater.base.throttle import Throttle
from headwater.schemas import (
    EVENT_SCHEMA,
    Codec,
    Json,
    Record,
    Table,
    as_destination,
    compile_writer,
)
from headwater.schemas import types as t
from headwater.transforms.mapping import (
    CompiledMapping,
    InvalidMapping,
    MappingFailed,
    Purpose,
    TransformationError,
    ValidationError,
    print_expression,
)
from tests.examples import examples
from tests.schemas import strategies as schemas
from tests.transforms.mapping import strategies
from tests.transforms.mapping.examples import INT32, JSON, RECORD, SCHEMA, TEXT

OUT = t.ObjectType(
    (
        t.Property("A", TEXT),
        t.Property("B", TEXT, nullable=True),
        t.Property("J", JSON),
        t.Property("N", INT32),
        t.Property("R", TEXT, create_required=True),
        t.Property("U", TEXT, update_required=True, nullable=True),
        t.Property("user", t.ObjectType((
            t.Property("name", TEXT),
            t.Property("address", t.ObjectType((t.Property("zip", TEXT), t.Property("city", TEXT, nullable=True)))),
        ))),
    )
)  # fmt: skip


def apply(mapping: dict[str, str], purpose: Purpose = "Import", record: Record = RECORD) -> Record:
    return CompiledMapping(mapping, SCHEMA, OUT).apply(record, purpose)


@pytest.mark.parametrize(
    ("mapping", "purpose", "output"),
    [
        ({"A": "first", "N": "n"}, "Import", {"A": "Ada", "N": 3}),
        ({"A": "gone"}, "Import", {}),
        ({"B": "unknown"}, "Import", {"B": None}),
        ({"B": "gone"}, "Import", {"B": None}),
        ({"B": "null"}, "Import", {"B": None}),
        ({"A": "null"}, "Import", {}),
        ({"A": "''"}, "Import", {"A": ""}),
        ({"A": "empty"}, "Import", {"A": ""}),
        ({"N": "empty"}, "Import", {}),
        ({"J": "''"}, "Import", {"J": Json('""')}),
        ({"J": ".null"}, "Import", {"J": Json("null")}),
        ({"A": ".null"}, "Import", {}),
        ({"R": "unknown"}, "Import", {}),
        ({"R": "unknown"}, "Update", {}),
        ({"R": "first"}, "Create", {"R": "Ada"}),
        ({"U": "unknown"}, "Update", {"U": None}),
        ({"A": "first"}, "Create", {"A": "Ada"}),
        ({"user.name": "first", "user.address.zip": "n"}, "Import", {"user": {"name": "Ada", "address": {"zip": "3"}}}),
        ({"user.address.city": "gone"}, "Import", {"user": {"address": {"city": None}}}),
        ({"user.address.zip": "gone"}, "Import", {}),
        ({"user.address": "map('zip', 1, 'x', 2)"}, "Import", {"user": {"address": {"zip": "1"}}}),
    ],
)
def test_maps(mapping: dict[str, str], purpose: Purpose, output: Record) -> None:
    assert apply(mapping, purpose) == output


@pytest.mark.parametrize(
    ("mapping", "field", "reason"),
    [
        ({}, None, "a mapping must have at least one expression"),
        ({"": "n"}, "", "«» is not a property path"),
        ({"a b": "n"}, "a b", "«a b» is not a property path"),
        ({"Z": "n"}, "Z", "the output schema has no «Z»"),
        ({"A.x": "n"}, "A.x", "the output schema has no «A.x»"),
        ({"user.x": "n"}, "user.x", "the output schema has no «user.x»"),
        ({"user.name": "first", "user": "address"}, "user.name", "«user.name» is inside «user», which is mapped too"),
        ({"A": "n", "N": "«»+"}, "N", "the expression ««≫+» for «N» is not valid: unexpected '«', at character 1"),
        ({"N": ""}, "N", "the expression «» for «N» is not valid: the expression is empty"),
    ],
)
def test_rejects_mappings(mapping: dict[str, str], field: str | None, reason: str) -> None:
    with pytest.raises(InvalidMapping) as raised:
        apply(mapping)
    assert reason in raised.value.message
    assert raised.value.field == field
    assert isinstance(raised.value, BadRequest)


def test_paths_with_a_common_prefix() -> None:
    out = t.ObjectType(
        (t.Property("a", t.ObjectType((t.Property("b", TEXT),))), t.Property("a_b", TEXT), t.Property("ab", TEXT))
    )
    assert CompiledMapping({"a": "map('b', 1)", "a_b": "2", "ab": "3"}, None, out).apply({}) == {
        "a": {"b": "1"}, "a_b": "2", "ab": "3",
    }  # fmt: skip


def test_a_failure_names_expression_path_and_step() -> None:
    with pytest.raises(TransformationError) as failed:
        apply({"N": "n", "A": "doc.a.x '»'"})
    assert failed.value.message == "«doc.a.x '≫'» for «A»: doc.a is not a JSON object"
    assert (failed.value.path, failed.value.expression, failed.value.step) == ("A", "doc.a.x '»'", "Transformation")
    with pytest.raises(ValidationError) as raised:
        apply({"A": "n", "N": "first"})
    assert raised.value.message == "«first» for «N»: the result must be the digits of an integer"
    assert (raised.value.path, raised.value.expression, raised.value.step) == ("N", "first", "OutputValidation")
    assert isinstance(raised.value, Unprocessable)
    assert raised.value.code == "TransformationFailed"


def test_a_long_expression_is_cut_in_messages() -> None:
    with pytest.raises(ValidationError) as failed:
        apply({"N": "first '" + "x" * 10_000 + "'"})
    assert len(failed.value.message) < 300


def test_one_bad_record_does_not_fail_the_others() -> None:
    mapping = CompiledMapping({"N": "first"}, SCHEMA, OUT)
    records: list[Record] = [{"first": "1"}, {"first": "x"}, {}]
    results = list(mapping.apply_all(records))
    assert (results[0], results[2]) == ({"N": 1}, {})
    assert isinstance(results[1], MappingFailed)


def test_paths_of_inputs_and_outputs() -> None:
    mapping = CompiledMapping({"user.name": "first n", "A": "doc.x", "B": "1"}, SCHEMA, OUT)
    assert mapping.in_paths == ("doc", "first", "n")
    assert mapping.out_paths == ("user.name", "A", "B")


def test_records_are_not_changed() -> None:
    record: Record = {"address": {"street": "x"}, "tags": ["1"]}
    out = t.ObjectType(
        (
            t.Property(
                "a",
                t.ObjectType((t.Property("b", JSON), t.Property("c", t.ArrayType(INT32)))),
            ),
        )
    )
    assert CompiledMapping({"a.b": "address", "a.c": "tags"}, SCHEMA, out).apply(record) == {
        "a": {"b": Json('{"street":"x"}'), "c": [1]},
    }  # fmt: skip
    assert record == {"address": {"street": "x"}, "tags": ["1"]}


def test_maps_events() -> None:
    mapping = CompiledMapping(
        {"A": "coalesce(traits.name, traits.firstName ' ' traits.lastName)", "N": "properties.cart.items"},
        EVENT_SCHEMA,
        OUT,
    )
    assert mapping.in_paths == ("properties", "traits")
    event: Record = {"traits": Json('{"firstName":"Ada","lastName":"L"}'), "properties": Json('{"cart":{"items":2}}')}
    assert mapping.apply(event) == {"A": "Ada L", "N": 2}


def test_expressions_share_decoded_json_unchanged() -> None:
    mapping = {"A": "doc.a.x?.y", "B": "doc.b.c", "J": "doc.b.c.d?.e", "N": "doc.a"}
    assert apply(mapping) == {"B": None, "N": 5}
    with pytest.raises(TransformationError, match=r"doc\.a is not a JSON object"):
        apply({"A": "doc.a.x?.y", "B": "doc.a.x.y"})
    assert apply({"B": "doc.q.r.s", "J": "doc.q.r", "A": "doc.b.z.y"}) == {"B": None}


# --- Required properties ------------------------------------------------------------------------------------------

PERSON = t.ObjectType((t.Property("id", TEXT, create_required=True), t.Property("note", TEXT, update_required=True)))
REQUIRING = t.ObjectType(
    (
        t.Property("key", TEXT, create_required=True, update_required=True),
        t.Property("one", PERSON),
        t.Property("must", PERSON, create_required=True),
        t.Property("list", t.ArrayType(PERSON)),
        t.Property("named", t.MapType(PERSON)),
    )
)


@pytest.mark.parametrize(
    ("mapping", "purpose", "missing"),
    [
        ({"key": "gone"}, "Import", None),
        ({"key": "gone"}, "Create", "key"),
        ({"key": "gone"}, "Update", "key"),
        ({"one": "map('note', 1)"}, "Create", "one.id"),
        ({"one": "map('note', 1)"}, "Update", None),
        ({"one": "map('id', 1)"}, "Update", "one.note"),
        ({"one": ".null"}, "Create", None),
        ({"one.id": "gone"}, "Create", "one.id"),
        ({"one.note": "first"}, "Create", None),  # one.id may come from elsewhere
        ({"must.note": "gone"}, "Create", "must"),
        ({"must.note": "first"}, "Create", None),
        ({"list": "array(map('id', 1), map())"}, "Create", "list[1].id"),
        ({"list": "array()"}, "Create", None),
        ({"named": "map('k k', map())"}, "Create", 'named["k k"].id'),
    ],
)
def test_required_properties(mapping: dict[str, str], purpose: Purpose, missing: str | None) -> None:
    compiled = CompiledMapping(mapping, SCHEMA, REQUIRING)
    if missing is None:
        compiled.apply(RECORD, purpose)
        return
    with pytest.raises(ValidationError) as failed:
        compiled.apply(RECORD, purpose)
    word = {"Create": "creation", "Update": "update"}[purpose]
    assert failed.value.path == missing
    assert failed.value.reason == f"{missing} is required for {word}"
    assert failed.value.expression == next(iter(mapping.values()))


# --- Any schemas, expressions and records --------------------------------------------------------------------------


@st.composite
def mappings(draw: st.DrawFn) -> tuple[CompiledMapping, Record, t.ObjectType]:
    """A mapping of any expressions that fit, a record for it, and its output schema."""
    schema, record = draw(schemas.schemas_and_records())
    out = draw(schemas.schemas(2) | st.sampled_from([OUT, REQUIRING]))
    trees = strategies.expressions(strategies.references(schema))
    outputs: dict[str, str] = {}
    for property in out:
        source = print_expression(draw(trees))
        try:
            CompiledMapping({property.name: source}, schema, out)
        except InvalidMapping:
            continue
        outputs[property.name] = source
    assume(outputs)
    return CompiledMapping(outputs, schema, out), record, out


@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.too_slow])
@given(mappings(), st.sampled_from(["Import", "Create", "Update"]))
def test_results_conform_or_are_errors(drawn: tuple[CompiledMapping, Record, t.ObjectType], purpose: Purpose) -> None:
    mapping, record, out = drawn
    (result,) = mapping.apply_all([record], purpose)
    if isinstance(result, MappingFailed):
        assert result.path
        return
    conforming = strategies.lenient(as_destination(out) or out)
    assert isinstance(conforming, t.ObjectType)
    for property in conforming:
        if result.get(property.name) is None and isinstance(property.type, t.JsonType):
            result.pop(property.name, None)
    Codec(conforming).check(result)


@given(schemas.schemas_and_records())
def test_a_schema_maps_to_itself(drawn: tuple[t.ObjectType, dict[str, Any]]) -> None:
    schema, record = drawn
    mapping = CompiledMapping({property.name: "." + property.name for property in schema}, schema, schema)
    expected = {property.name: record.get(property.name) for property in schema
                if record.get(property.name) is not None or property.nullable}  # fmt: skip
    assert schemas.same(mapping.apply(record), expected)


@given(mappings())
def test_a_writer_writes_the_results(drawn: tuple[CompiledMapping, Record, t.ObjectType]) -> None:
    mapping, record, out = drawn
    write, write_together = mapping.compile_writer(out), mapping.compile_table_writer(out)
    try:
        result = mapping.apply(record)
    except MappingFailed as error:
        with pytest.raises(type(error)) as raised:
            write(record)
        assert raised.value.message == error.message
        assert write_together is None or write_together(Table.of([record])) is None
        return
    text = compile_writer(out)(result)
    assert write(record) == text
    assert write_together is None or write_together(Table.of([record, record])) == [text.decode()] * 2


@pytest.mark.parametrize(
    "expression",
    [
        "a", "n", "b ' ' a", "a n", "'x'", "1", "lower(trim(a))", "initcap(b)", "eq(a, 'A ')", "ne(a, b)", "eq(n, 2)",
        "coalesce(a, b)", "coalesce(b, 'none')", "coalesce(n, 7)", "coalesce(lower(b), upper(a))", "len(a)", "d",
        "if(eq(a, 'A '), b, 'other')", "lower(coalesce(b, a))", "null", "o.x", "j", "lower(j)", "d ' ' a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("type", [t.StringType(), t.StringType(max_length=4), t.IntType(8), t.DateType()], ids=str)
def test_many_records_are_written_as_one_by_one(expression: str, type: t.Type) -> None:
    texts = {name: t.Property(name, t.StringType(), nullable=True) for name in "abd"}
    inner = t.ObjectType((t.Property("x", t.StringType()),))
    others = (t.Property("n", t.IntType(32), nullable=True), t.Property("o", inner), t.Property("j", t.JsonType()))
    schema = t.ObjectType((*texts.values(), *others))
    out = t.ObjectType((t.Property("p", type), t.Property("q", type, nullable=True)))
    rows = [("A ", "b", 2), ("", None, None), (None, "Ünï", 300), ("2024-02-03", "12", 5), ("x" * 2_000, "y", 1)]
    records: list[Record] = [
        {"a": a, "b": b, "n": n, "d": "2024-02-03", "o": {"x": "3"}, "j": Json('"J"')} for a, b, n in rows
    ]
    try:
        mapping = CompiledMapping({"p": expression, "q": expression}, schema, out)
    except InvalidMapping:
        return
    write, write_together = mapping.compile_writer(out), mapping.compile_table_writer(out)
    assert write_together is not None
    for some in [records[:1], records[1:2], records[2:3], records[3:4], records[4:], records[:2], records]:
        columns = Table(len(some), columns={name: [record[name] for record in some] for name in schema.by_name})
        try:
            expected = [write(record).decode() for record in some]
        except MappingFailed:
            expected = None
        for table in (Table.of(some), columns):
            found = write_together(table)
            assert found == expected or (found is None and some[-1] is records[-1])


def test_bounds_hold_everywhere() -> None:
    out = t.ObjectType((t.Property("x", t.StringType(max_length=2)), t.Property("y", t.IntType(8))))
    with pytest.raises(ValidationError, match="at most 2 characters"):
        CompiledMapping({"x": "first"}, SCHEMA, out).apply(RECORD)
    with pytest.raises(ValidationError, match="in the range -128 to 127"):
        CompiledMapping({"y": "born"}, SCHEMA, out).apply(RECORD)


def test_an_unexpected_error_of_an_expression_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.transforms.mapping.mapping._throttle", Throttle())
    out = t.ObjectType((t.Property("v", t.StringType(), read_optional=True),))
    mapping = CompiledMapping({"v": "lower(a)"}, t.ObjectType((t.Property("a", t.StringType()),)), out)
    with capture_logs() as lines:
        failed = list(mapping.apply_all([{"a": cast(Any, Path())}] * 3))
    assert [str(each) for each in failed] == ["«lower(a)» for «v»: it cannot be computed for this record"] * 3
    assert [line["event"] for line in lines] == ["an expression fails"]
