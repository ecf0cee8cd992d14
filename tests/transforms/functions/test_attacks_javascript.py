"""Hostile JavaScript gives an error in bounded time, and the next call works."""

import asyncio

import pytest

from headwater.schemas import Record
from headwater.transforms.functions import FunctionFailed, RecordError, Runner
from tests.transforms.functions.make import IDENTITY, USER, function

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA, GOOD = USER, IDENTITY["JavaScript"]
USERS: list[Record] = [{"id": number, "name": "Ada"} for number in range(3)]

FAILS = {
    "an endless loop": ("function transform(u) { for (;;); }", "longer than 0.5 s"),
    "an endless loop outside transform": ("for (;;);", "longer than 0.5 s"),
    "an endless loop that is caught": ("function transform(u) { for (;;) try { for (;;); } catch {} }", "longer than"),
    "an endless loop in a getter": ("function transform(u) { return { get name() { for (;;); } } }", "longer than"),
    "an endless loop where transform should be":
        ("Object.defineProperty(globalThis, 'transform', { get() { for (;;); } })", "longer than"),
    "endless microtasks":
        ("function transform(u) { const f = () => Promise.resolve().then(f); f(); return u }", "longer than"),
    "an endless async function": ("async function transform(u) { for (;;) await null }", "longer than"),
    "a catastrophic regular expression":
        ("function transform(u) { return /^(a+)+$/.test('a'.repeat(50) + 'b') }", "longer than"),
    "array buffers":
        ("const kept = []; function transform(u) { for (;;) kept.push(new Uint8Array(1 << 24).fill(1)) }", "stopped"),
    "a heap that grows":
        ("function transform(u) { const kept = []; for (;;) kept.push({ n: kept.length, s: 'x' + kept.length }) }",
         "stopped"),
    "large results": ("function transform(u) { return { name: 'x'.repeat(3e6) } }", "results are larger"),
    "no function": ("const transformed = 1", "no function named transform"),
    "syntax": ("function transform(u) {\n  return u.(\n}", "line 2"),
    "an exception outside transform": ("let a\n\na.b", "line 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
async def test_stopped_and_the_next_call_works(runner: Runner, name: str) -> None:
    source, message = FAILS[name]
    with pytest.raises(FunctionFailed, match=message):
        async with asyncio.timeout(30):
            await runner.run(function("JavaScript", source), USERS, SCHEMA, SCHEMA)
    assert await runner.run(function("JavaScript", GOOD), USERS, SCHEMA, SCHEMA) == USERS


ERRORS = {
    "deep recursion": ("function transform(u) { return transform(u) }", "RangeError"),
    "a text without bound": ("function transform(u) { let s = 'x'; for (;;) s += s }", "Invalid string length"),
    "a huge integer": ("function transform(u) { return { id: 2n ** (2n ** 40n) } }", "BigInt"),
    "a cycle": ("function transform(u) { u.name = u; return u }", "«name» is not of type string"),
    "a thrown proxy":
        ("function transform(u) { throw new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 2 } }) }",
         "without a text"),
    "a returned proxy":
        ("function transform(u) { return new Proxy({}, { ownKeys() { throw new Error('no') } }) }", "no"),
    "a getter that throws": ("function transform(u) { return { get name() { throw new Error('no') } } }", "Error: no"),
    "a thrown symbol": ("function transform(u) { throw Symbol('s') }", "Symbol"),
    "a thrown null": ("function transform(u) { throw null }", "null"),
    "a promise": ("async function transform(u) { return u }", "returned a promise"),
    "nothing": ("function transform(u) {}", "returned undefined"),
    "null": ("function transform(u) { return null }", "returned null"),
    "an array": ("function transform(u) { return [u] }", "returned an array"),
    "an object of a class": ("class U {}; function transform(u) { return new U() }", "an object of a class"),
    "toJSON on every object": ("Object.prototype.toJSON = () => -5; function transform(u) { return u }", "object"),
    "a setter on every object": ("Object.defineProperty(Object.prototype, 'x', { set() { throw 1 } });"
                                 "function transform(u) { return { x: 1 } }", "«x» does not exist"),
    "setTimeout": ("function transform(u) { setTimeout(() => 0, 1) }", "setTimeout is not a function"),
    "another module": ("function transform(u) { return require('fs') }", "require is not defined"),
    "the process": ("function transform(u) { return process.env }", "process is not defined"),
    "the network": ("function transform(u) { return fetch('http://127.0.0.1') }", "fetch is not defined"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_of_each_record(runner: Runner, name: str) -> None:
    source, message = ERRORS[name]
    outcomes = await runner.run(function("JavaScript", source), USERS, SCHEMA, SCHEMA)
    assert len(outcomes) == len(USERS)
    for outcome in outcomes:
        assert isinstance(outcome, RecordError) and message in outcome.message
    assert await runner.run(function("JavaScript", GOOD), USERS, SCHEMA, SCHEMA) == USERS


HARMLESS = {
    "replaced globals":
        "JSON.parse = JSON.stringify = Array.isArray = Object.keys = null; function transform(u) { return u }",
    "replaced prototypes": "String.prototype.slice = Array.prototype.join = WeakSet.prototype.has = () => { throw 1 };"
                           "function transform(u) { return u }",
    "a frozen world":
        "Object.freeze(Object.prototype); Object.freeze(Array.prototype); function transform(u) { return u }",
    "a replaced global object": "globalThis.Object = globalThis.WeakSet = 1; function transform(u) { return u }",
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
async def test_changing_the_language_does_not_change_the_loop(runner: Runner, name: str) -> None:
    assert await runner.run(function("JavaScript", HARMLESS[name]), USERS, SCHEMA, SCHEMA) == USERS


async def test_dangerous_globals_are_gone(runner: Runner) -> None:
    source = """function transform(u) {
        return { name: [typeof WebAssembly, typeof SharedArrayBuffer, typeof Atomics, typeof setTimeout].join() } }"""
    outcomes = await runner.run(function("JavaScript", source), USERS[:1], SCHEMA, SCHEMA)
    assert outcomes == [{"name": "undefined,undefined,undefined,undefined"}]


async def test_prototypes_of_one_function_are_not_those_of_another(runner: Runner) -> None:
    evil = "Object.prototype.name = 'Mallory'; globalThis.seen = 1; function transform(u) { return u }"
    await runner.run(function("JavaScript", evil, owner="a"), USERS, SCHEMA, SCHEMA)
    good = "function transform(u) { return { name: typeof seen + ({}).name } }"
    outcomes = await runner.run(function("JavaScript", good, owner="b"), USERS[:1], SCHEMA, SCHEMA)
    assert outcomes == [{"name": "undefinedundefined"}]
