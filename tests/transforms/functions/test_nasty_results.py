"""For any result of a function, each record has an outcome, other records are not affected, and results can be
stored."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from headwater.schemas import Codec, Json
from headwater.schemas import types as t
from headwater.transforms.functions import Function, Language, Limits, RecordError, Runner

TYPES: dict[str, t.Type] = {
    "v": t.JsonType(),
    "s": t.StringType(),
    "n": t.IntType(32),
    "b": t.IntType(64),
    "f": t.FloatType(64),
    "d": t.DecimalType(20, 3),
    "t": t.DateTimeType(),
    "m": t.MapType(t.StringType()),
    "j": t.MapType(t.JsonType()),
    "a": t.ArrayType(t.ArrayType(t.JsonType())),
    "o": t.ObjectType((t.Property("x", t.StringType(), read_optional=True),)),
}
OUT = t.ObjectType(tuple(t.Property(name, type, read_optional=True) for name, type in TYPES.items()))
IN = t.ObjectType((t.Property("case", t.IntType(32)),))

JAVASCRIPT = """
const deep = (n, wrap) => { let v = 1; for (let i = 0; i < n; i++) v = wrap(v); return v; };
const list = (v) => [v], member = (v) => ({ v });
const ring = []; ring.push(ring);
const circle = {}; circle.x = circle;
class Own { constructor() { this.s = "x" } }
const thrower = (value) => () => { throw value };
const bad = new Proxy({}, {
    get() { throw new Error("get") }, ownKeys() { throw new Error("keys") },
    getPrototypeOf() { throw new Error("proto") },
});
const cases = [
CASES
];
const transform = (record) => record.case < 0 ? { s: "good" } : cases[record.case]();
"""
FAILS_IN_JAVASCRIPT = r"""
({ v: deep(101, list) })            ~ nested deeper
({ v: deep(900, list) })            ~ nested
({ v: deep(1000, member) })         ~ nested
({ v: deep(1500, list) })           ~ nested
({ v: deep(3000, member) })         ~ nested
({ v: deep(100000, list) })         ~ nested
({ v: "\ud800" })                   ~ surrogates
({ v: { "\ud800": 1 } })            ~ surrogates
({ v: [NaN, "\udc00"] })            ~ must be JSON
({ v: NaN })                        ~ must be JSON
({ v: 1e400 })                      ~ must be JSON
({ j: { k: deep(2000, list) } })    ~ nested
({ j: { k: deep(120, list) } })     ~ nested
({ a: [[deep(2000, list)]] })       ~ nested
({ a: deep(2000, list) })           ~ nested
({ m: deep(2000, member) })         ~ «m["v"]» is not of type string
({ o: deep(2000, member) })         ~ does not exist
({ s: "\ud800" })                   ~ surrogates
({ s: "a\udc00b" })                 ~ surrogates
({ m: { "a\ud800": "v" } })         ~ surrogates
({ m: { a: "\ud800" } })            ~ surrogates
({ j: { "\udfff": 1 } })            ~ surrogates
({ "\ud800": 1 })                   ~ does not exist
({ d: "\ud800" })                   ~ decimal
({ t: "\ud800" })                   ~
({ n: 1e308 })                      ~ range
({ n: NaN })                        ~ not an integer
({ n: Infinity })                   ~ not an integer
({ n: 2 ** 53 })                    ~ range
({ n: 1.5 })                        ~ not an integer
({ n: 1n })                         ~ not of type number
({ b: 10n ** 5000n })               ~ range
({ b: 10n ** 4000n })               ~ range
({ b: 2n ** 63n })                  ~ range
({ b: 1 })                          ~ not of type bigint
({ f: "1" })                        ~ not of type number
({ d: "1e999999999" })              ~ decimal
({ d: "1e99999999999999999999" })   ~ decimal
({ d: "9".repeat(100000) })         ~ decimal
({ d: "NaN" })                      ~ decimal
({ t: "9".repeat(100000) })         ~
({ t: new Date(NaN) })              ~ invalid date
({ t: new Date(8.64e15) })          ~
({ v: 10n })                        ~ not a JSON value
({ v: [10n] })                      ~ BigInt
({ v: () => 1 })                    ~ not a JSON value
({ v: Symbol() })                   ~ not a JSON value
({ v: ring })                       ~ circular
({ v: circle })                     ~ circular
({ j: circle })                     ~ circular
({ a: ring })                       ~ circular
({ m: circle })                     ~ not of type string
({ o: circle })                     ~ not of type string
({ s: "x".repeat(1048576) })        ~ larger than 1048576 characters
({ s: "x".repeat(3000000) })        ~ larger than 1048576 characters
({ v: Array(600000).fill(0) })      ~ larger than 1048576 characters
({ a: Array(400000).fill([]) })     ~ larger than 1048576 characters
({ ["x".repeat(100000)]: 1 })       ~ does not exist
null                                ~ must return an object, and returned null
undefined                           ~ returned undefined
7                                   ~ returned a number
"x"                                 ~ returned a string
[]                                  ~ returned an array
Symbol()                            ~ returned a symbol
(() => 1)                           ~ returned a function
Promise.resolve({})                 ~ returned a promise
new Own()                           ~ an object of a class
new Date()                          ~ an object of a class
bad                                 ~ proto
({ v: bad })                        ~
({ get s() { throw new Error("getter") } })  ~ getter
({ v: { toJSON() { throw new Error("tojson") } } })  ~ tojson
({ v: { toJSON() { return deep(2000, list) } } })  ~ nested
thrower(Symbol("a"))()              ~ Symbol(a)
thrower(null)()                     ~ null
thrower(undefined)()                ~ undefined
thrower(bad)()                      ~
thrower(() => 1)()                  ~ a function was thrown
thrower("x".repeat(1000000))()      ~ xxx
thrower(new Error("cut \ud83d"))()  ~ Error: cut �
thrower(new Error("\ud83d".repeat(3000)))()  ~ Error: �
thrower({ name: "\udc00", message: "m" })()  ~ �: m
thrower({ name: 1, message: {}, stack: [] })()  ~ an error without a text
(function f() { return f() + 1 })() ~ call stack
"""
WORKS_IN_JAVASCRIPT = r"""
({})
Object.create(null)
({ v: deep(100, list) })
({ s: "\u{1f600}".repeat(600000) })
({ v: "\u0000" })
({ v: "\u2028\n" })
({ s: "\u0000" })
({ v: -0 })
({ n: -0 })
({ f: NaN })
({ f: -Infinity })
({ f: 5e-324 })
({ b: -(2n ** 63n) })
({ v: new Array(5) })
({ v: new Map([[1, 2]]) })
({ v: new Uint8Array(10) })
({ v: { toJSON() { return undefined } } })
({ v: JSON.rawJSON === undefined ? 1 : JSON.rawJSON("1" + "0".repeat(5000)) })
({ s: "x".repeat(1000000) })
({ m: JSON.parse('{"__proto__": "x"}') })
({ j: { "": null } })
({ n: null, s: undefined })
"""

PYTHON = """
import datetime, decimal, json
def deep(n, wrap):
    v = 1
    for i in range(n):
        v = wrap(v)
    return v
def items(v):
    return [v]
def member(v):
    return {'v': v}
def ring():
    a = []
    a.append(a)
    return a
def circle():
    a = {}
    a['x'] = a
    return a
def fail(error):
    raise error
def forever():
    return forever()
class Own:
    pass
def transform(record):
    case = record['case']
    if case < 0:
        return {'s': 'good'}
    return cases[case]()
cases = [
CASES
]
"""
FAILS_IN_PYTHON = r"""
{'v': deep(101, items)}             ~ nested deeper
{'v': deep(180, member)}            ~ nested
{'v': deep(250, items)}             ~ nested
{'v': deep(900, items)}             ~
{'v': deep(5000, items)}            ~ recursion
{'v': deep(50000, items)}           ~ recursion
{'j': {'k': deep(120, items)}}      ~ nested
{'a': [[deep(150, items)]]}         ~ nested
{'a': deep(150, items)}             ~ nested
{'m': deep(150, member)}            ~ not of type str
{'o': deep(150, member)}            ~ does not exist
{'n': 10 ** 400}                    ~ range
{'n': 10 ** 4000}                   ~ range
{'n': 10 ** 5000}                   ~ Exceeds the limit
{'v': 10 ** 5000}                   ~ Exceeds the limit
{'v': float('nan')}                 ~ NaN
{'v': [float('inf')]}               ~ NaN
{'n': 1.5}                          ~ not of type int
{'n': float('inf')}                 ~ not of type int
{'b': 2 ** 63}                      ~ range
{'b': -10 ** 3000}                  ~ range
{'f': 10 ** 400}                    ~ too large
{'f': '1'}                          ~ not of type float
{'d': decimal.Decimal('1e999')}     ~ decimal
{'d': decimal.Decimal('9' * 5000)}  ~ Exceeds the limit
{'d': decimal.Decimal('NaN')}       ~ decimal
{'d': 1}                            ~ not of type decimal.Decimal
{'t': datetime.date(2024, 1, 1)}    ~ not of type datetime.datetime
{'t': '2024-01-01'}                 ~ not of type datetime.datetime
{'v': ring()}                       ~ Circular
{'v': circle()}                     ~ Circular
{'j': circle()}                     ~ Circular
{'a': ring()}                       ~ Circular
{'m': circle()}                     ~ Circular
{'o': circle()}                     ~ Circular
{'v': [ring(), b'x']}               ~
{'s': 'x' * 1048576}                ~ larger than 1048576 characters
{'s': 'x' * 3000000}                ~ larger than 1048576 characters
{'v': [0] * 400000}                 ~ larger than 1048576 characters
{'a': [[]] * 400000}                ~ larger than 1048576 characters
{'x' * 100000: 1}                   ~ does not exist
{1: 2}                              ~ does not exist
{None: 2}                           ~ does not exist
{(1, 2): 3}                         ~ keys must be
{'m': {(1, 2): 'x'}}                ~ keys must be
{'s': b'x'}                         ~ bytes
{'v': Own()}                        ~ Own
{'v': {1, 2}}                       ~ set
{'v': transform}                    ~ function
{'v': ...}                          ~
{'s': None, 'n': [None]}            ~ not of type int
None                                ~ must return a dict, and returned NoneType
7                                   ~ returned int
'x'                                 ~ returned str
[]                                  ~ returned list
Own()                               ~ returned Own
transform                           ~ returned function
fail(ValueError('x' * 1000000))     ~ ValueError
fail(ValueError('a\tb'))            ~ ValueError
fail(KeyError((1, 2)))              ~
fail(TimeoutError('time limit'))    ~ TimeoutError
json.loads('1' * 5000)              ~ Exceeds the limit
json.loads('[' * 5000)              ~ recursion
forever()                           ~ recursion
[][1]                               ~ IndexError
1 / 0                               ~ ZeroDivisionError
"""
WORKS_IN_PYTHON = r"""
{}
{'v': deep(100, items)}
{'v': '\x00'}
{'s': '\x00\u2028'}
{'v': 10 ** 4000}
{'v': -0.0}
{'f': float('nan')}
{'f': float('-inf')}
{'f': 10 ** 300}
{'b': -2 ** 63}
{'v': (1, (2, 3))}
{'v': {1: 2, None: 3, True: 4}}
{'s': 'x' * 1000000}
{'j': {'': None}}
{'n': None}
{'m': {}}
"""


def cases(table: str) -> list[tuple[str, str]]:
    """Return the expression of each line, and a part of the message of its failure."""
    lines = [line.rpartition("~") if "~" in line else (line, "", "") for line in table.strip().split("\n")]
    return [(expression.strip(), expected.strip()) for expression, _, expected in lines]


TABLES = {
    "JavaScript": (JAVASCRIPT, "() => {},", FAILS_IN_JAVASCRIPT, WORKS_IN_JAVASCRIPT),
    "Python": (PYTHON, "lambda: {},", FAILS_IN_PYTHON, WORKS_IN_PYTHON),
}
FAILING = [(language, *case) for language, table in TABLES.items() for case in cases(table[2])]
WORKING = [(language, expression) for language, table in TABLES.items() for expression, _ in cases(table[3])]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner() -> AsyncIterator[Runner]:
    async with Runner(Limits(seconds=10), javascript=1, python=1) as runner:
        yield runner


async def run_between(runner: Runner, language: Language, expression: str) -> Any:
    """Return the outcome of a record between two others, whose results must not change."""
    source, form, *_ = TABLES[language]
    body = f"({expression})" if expression.startswith("{") else expression
    source = source.replace("CASES", form.replace("{}", body))
    function = Function("test", language, source, in_paths=("case",), out_paths=tuple(TYPES))
    before, outcome, after = await runner.run(function, [{"case": -1}, {"case": 0}, {"case": -1}], IN, OUT)
    assert before == after == {"s": "good"}
    return outcome


@pytest.mark.parametrize(("language", "expression", "expected"), FAILING)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_result_that_cannot_be_kept_fails_its_record(
    runner: Runner, language: Language, expression: str, expected: str
) -> None:
    outcome = await run_between(runner, language, expression)
    assert isinstance(outcome, RecordError), str(outcome)[:200]
    assert expected in outcome.message
    assert len(outcome.message.encode()) < 5_000


@pytest.mark.parametrize(("language", "expression"), WORKING)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_strange_result_that_can_be_kept_is(runner: Runner, language: Language, expression: str) -> None:
    outcome = await run_between(runner, language, expression)
    assert not isinstance(outcome, RecordError), outcome
    assert len(Codec(OUT).encode(outcome)) < 7 << 20


NASTY_INPUTS = {
    "digits": ("1" * 5_000, "Exceeds the limit (4300 digits)"),
    "negative digits": ("[" + "-1" * 1 + "2" * 5_000 + "]", "Exceeds the limit (4300 digits)"),
    "digits before a point": ("1" * 5_000 + ".5", "number out of range"),
    "a surrogate": ('"\\ud800"', "hex escape"),
    "a key with a surrogate": ('{"\\udc00":1}', "hex escape"),
    "300 levels": ("[" * 300 + "]" * 300, "recursion limit"),
    "100,000 levels": ("[" * 100_000 + "]" * 100_000, "recursion limit"),
}


@pytest.mark.parametrize(("text", "expected"), NASTY_INPUTS.values(), ids=NASTY_INPUTS)
@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_record_that_a_language_cannot_hold_fails_alone(
    runner: Runner, language: Language, text: str, expected: str
) -> None:
    """The session has run a batch before, whose results it must not return."""
    schema = t.ObjectType((t.Property("v", t.JsonType()), t.Property("n", t.IntType(32))))
    sources = {
        "JavaScript": "const transform = (record) => ({ n: record.n + 1 })",
        "Python": "def transform(record):\n    return {'n': record['n'] + 1}",
    }
    function = Function("test", language, sources[language], in_paths=("v", "n"), out_paths=("n",))
    out = t.ObjectType((t.Property("n", t.IntType(32), read_optional=True),))
    plain: list[Any] = [{"v": Json("1"), "n": number} for number in range(3)]
    assert await runner.run(function, plain, schema, out) == [{"n": 1}, {"n": 2}, {"n": 3}]
    nasty: list[Any] = [{"v": Json('[1,\n"a,\\nb"]'), "n": 10}, {"v": Json(text), "n": 20}, {"v": Json("1"), "n": 30}]
    before, outcome, after = await runner.run(function, nasty, schema, out)
    assert before == {"n": 11} and after == {"n": 31}
    if language == "JavaScript":
        assert outcome == {"n": 21}
    else:
        assert isinstance(outcome, RecordError) and outcome.line is None
        assert outcome.message.startswith("the record cannot be passed to Python: ") and expected in outcome.message
    assert await runner.run(function, plain, schema, out) == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_record_that_does_not_conform_fails_alone(runner: Runner, language: Language) -> None:
    sources = {
        "JavaScript": "const transform = (record) => ({ s: record.s })",
        "Python": "def transform(record):\n    return {'s': record['s']}",
    }
    schema = t.ObjectType(
        (t.Property("s", t.StringType(), read_optional=True), t.Property("d", t.DecimalType(9, 3), read_optional=True))
    )
    function = Function("test", language, sources[language], in_paths=("s", "d"), out_paths=("s",))
    records: list[Any] = [{"s": "a"}, {"s": "\ud800"}, {"s": "b", "d": "no decimal"}, {"s": "c\n"}]
    good, surrogate, other, last = await runner.run(function, records, schema, schema)
    assert good == {"s": "a"} and last == {"s": "c\n"}
    assert isinstance(surrogate, RecordError) and "lone surrogate" in surrogate.message
    assert isinstance(other, RecordError) and "does not conform to the input schema" in other.message
