"""Hostile Python gives an error in bounded time, and the next call works."""

import asyncio

import pytest

from headwater.schemas import Record
from headwater.transforms.functions import FunctionFailed, RecordError, Runner
from tests.transforms.functions.make import IDENTITY, USER, function

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA, GOOD = USER, IDENTITY["Python"]
USERS: list[Record] = [{"id": number, "name": "Ada"} for number in range(3)]

FAILS = {
    "an endless loop": ("def transform(u):\n  while True: pass", "took too long"),
    "an endless loop outside transform": ("while True: pass", "took too long"),
    "an endless loop that is caught": (
        "def transform(u):\n  while True:\n    try:\n      while True: pass\n    except BaseException: pass",
        "too long",
    ),
    "a list that grows": ("kept = []\ndef transform(u):\n  while True: kept.append('x' * 1000)", "64 MiB"),
    "a large list": ("def transform(u): return [0] * 10**9", "64 MiB"),
    "a large text": ("def transform(u): return 'x' * 10**10", "64 MiB"),
    "a huge integer": ("def transform(u): return 10 ** 10 ** 9", "64 MiB"),
    "printing": ("def transform(u):\n  while True: print('x' * 100)", "printed more"),
    "sleeping": ("import time\ndef transform(u):\n  time.sleep(1)", "cannot sleep"),
    "large results": ("def transform(u): return {'name': 'x' * 3_000_000}", "results are larger"),
    "no function": ("transformed = 1", "no function named transform"),
    "syntax": ("def transform(u):\n  return u.(", "line 2"),
    "an exception outside transform": ("a = {}\n\na['b']", "line 3"),
    "what is not supported": ("def transform(u):\n  yield u", "line 2"),
}


@pytest.mark.parametrize("name", FAILS)
async def test_stopped_and_the_next_call_works(runner: Runner, name: str) -> None:
    source, message = FAILS[name]
    with pytest.raises(FunctionFailed, match=message):
        async with asyncio.timeout(30):
            await runner.run(function("Python", source), USERS, SCHEMA, SCHEMA)
    assert await runner.run(function("Python", GOOD), USERS, SCHEMA, SCHEMA) == USERS


ERRORS = {
    "deep recursion": ("def transform(u): return transform(u)", "RecursionError"),
    "a cycle": ("def transform(u):\n  u['name'] = u\n  return u", "ircular"),
    "another kind of value": ("def transform(u): return {'name': transform}", "«name» is of type function"),
    "a nested kind of value": ("def transform(u): return {'name': [1, {'a': transform}]}", "«name[1].a» is of type"),
    "a set": ("def transform(u): return {1}", "returned set"),
    "None": ("def transform(u): pass", "returned NoneType"),
    "a coroutine": ("async def transform(u): return u", "returned coroutine"),
    "a file": ("def transform(u): return open('/etc/passwd').read()", "Error"),
    "a folder": ("import os\ndef transform(u): return os.listdir('/')", "Error"),
    "the environment": ("import os\ndef transform(u): return os.environ['PATH']", "Error"),
    "the network": ("def transform(u):\n  import socket", "No module named 'socket'"),
    "a process": ("def transform(u):\n  import subprocess", "No module named 'subprocess'"),
    "a time limit of its own": ("def transform(u): raise TimeoutError('no')", "TimeoutError: no"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_of_each_record(runner: Runner, name: str) -> None:
    source, message = ERRORS[name]
    outcomes = await runner.run(function("Python", source), USERS, SCHEMA, SCHEMA)
    assert len(outcomes) == len(USERS)
    for outcome in outcomes:
        assert isinstance(outcome, RecordError) and message in outcome.message
    assert await runner.run(function("Python", GOOD), USERS, SCHEMA, SCHEMA) == USERS


async def test_a_catastrophic_regular_expression_is_linear(runner: Runner) -> None:
    source = "import re\ndef transform(u): return {'active': bool(re.match('(a+)+b', 'a' * 5000))}"
    assert await runner.run(function("Python", source), USERS[:1], SCHEMA, SCHEMA) == [{"active": False}]


async def test_builtins_that_are_redefined_do_not_change_the_loop(runner: Runner) -> None:
    source = "def size(x): return 0\nlen = type = str = dict = ValueError = Exception = isinstance = None\n" + GOOD
    assert await runner.run(function("Python", source), USERS, SCHEMA, SCHEMA) == USERS


@pytest.mark.parametrize("name", ["start", "resume", "bind"])
async def test_replacing_the_code_around_it_only_breaks_the_function(runner: Runner, name: str) -> None:
    source = f"def __headwater_{name}(*args): return 7\ndef transform(u): raise ValueError('no')"
    with pytest.raises(FunctionFailed):
        await runner.run(function("Python", source), USERS, SCHEMA, SCHEMA)
    assert await runner.run(function("Python", GOOD), USERS, SCHEMA, SCHEMA) == USERS


async def test_printing_a_little_goes_nowhere(runner: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    source = "def transform(u):\n  print('secret')\n  return u"
    assert await runner.run(function("Python", source), USERS, SCHEMA, SCHEMA) == USERS
    assert capfd.readouterr() == ("", "")


async def test_globals_of_one_function_are_not_those_of_another(runner: Runner) -> None:
    await runner.run(function("Python", f"seen = 1\n{GOOD}", owner="a"), USERS, SCHEMA, SCHEMA)
    source = "def transform(u):\n  try:\n    seen\n  except NameError: return {'name': 'fresh'}"
    outcomes = await runner.run(function("Python", source, owner="b"), USERS[:1], SCHEMA, SCHEMA)
    assert outcomes == [{"name": "fresh"}]
