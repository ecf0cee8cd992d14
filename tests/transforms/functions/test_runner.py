"""Batches, contexts, and the processes behind them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headwater.base.errors import BadRequest
from headwater.schemas import IntType, Record
from headwater.transforms.functions import FunctionFailed, Language, Limits, Outcome, RecordError, Runner
from tests.transforms.functions.make import IDENTITY, USER, function, one

pytestmark = pytest.mark.asyncio(loop_scope="module")

LANGUAGES: list[Language] = ["JavaScript", "Python"]
COUNTER: dict[Language, str] = {
    "JavaScript": "let calls = 0\nfunction transform(user) { return { id: ++calls } }",
    "Python": "state = {'calls': 0}\ndef transform(user):\n    state['calls'] += 1\n    return {'id': state['calls']}",
}
BAD_EVERY_THIRD: dict[Language, str] = {
    "JavaScript": "function transform(user) {\n  if (user.id % 3 == 0)\n    throw new Error('third')\n  return user }",
    "Python": "def transform(user):\n  if user['id'] % 3 == 0:\n    raise ValueError('third')\n  return user",
}


def users(count: int) -> list[Record]:
    return [{"id": number, "name": f"user {number}"} for number in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_one_bad_record_does_not_fail_the_batch(runner: Runner, language: Language) -> None:
    records = users(200)
    outcomes = await runner.run(function(language, BAD_EVERY_THIRD[language]), records, USER, USER)
    for record, outcome in zip(records, outcomes, strict=True):
        if record["id"] % 3:  # type: ignore[operator]  # an int
            assert outcome == record
        else:
            assert isinstance(outcome, RecordError)
            assert (outcome.step, outcome.line) == ("Transformation", 3)
            assert outcome.message.startswith(f"{language}: ") and outcome.message.endswith("Error: third")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_errors_of_both_steps_in_one_batch(runner: Runner, language: Language) -> None:
    schema = one(IntType(8))
    source = {
        "JavaScript": "const transform = ({ v }) => [{ v }, null, { v: 1000 }, { v: null }, { v }][v]",
        "Python": "def transform(r):\n  v = r['v']\n  return None if v == 1 else {'v': {2: 1000, 3: None}.get(v, v)}",
    }[language]
    outcomes = await runner.run(function(language, source, schema), [{"v": n} for n in range(5)], schema, schema)
    steps = [outcome.step if isinstance(outcome, RecordError) else outcome for outcome in outcomes]
    assert steps == [{"v": 0}, "Transformation", "OutputValidation", {}, {"v": 4}]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_empty_batch_runs_nothing(runner: Runner, language: Language) -> None:
    assert await runner.run(function(language, "not a program"), [], USER, USER) == []


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_function_keeps_its_state_and_no_other_owner_sees_it(runner: Runner, language: Language) -> None:
    async def calls(owner: str) -> list[Outcome]:
        return await runner.run(function(language, COUNTER[language], owner=owner), users(2), USER, USER)

    assert await calls(f"one {language}") == [{"id": 1}, {"id": 2}]
    assert await calls(f"two {language}") == [{"id": 1}, {"id": 2}]
    assert await calls(f"one {language}") == [{"id": 3}, {"id": 4}]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_more_functions_than_contexts(runner: Runner, language: Language) -> None:
    for round in range(2):
        for number in range(12):
            written = function(language, COUNTER[language], owner=f"{round} {number}")
            assert await runner.run(written, users(1), USER, USER) == [{"id": 1}]


async def test_many_functions_at_the_same_time() -> None:
    async with Runner(Limits(seconds=10), javascript=2, python=3) as runner:

        async def call(number: int) -> bool:
            language = LANGUAGES[number % 2]
            written = function(language, IDENTITY[language], owner=str(number % 7))
            records = users(number + 1)
            return await runner.run(written, records, USER, USER) == records

        assert all(await asyncio.gather(*(call(number) for number in range(40))))


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_runaway_does_not_hold_up_others(language: Language) -> None:
    endless = {"JavaScript": "function transform() { for (;;); }", "Python": "def transform(u):\n  while True: pass"}
    async with Runner(Limits(seconds=1), javascript=2, python=2) as runner:
        stuck = asyncio.create_task(runner.run(function(language, endless[language], owner="a"), users(1), USER, USER))
        good = function(language, IDENTITY[language], owner="b")
        for _ in range(3):
            assert await runner.run(good, users(2), USER, USER) == users(2)
        with pytest.raises(FunctionFailed):
            await stuck


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_cancelled_call_leaves_a_sandbox_that_works(runner: Runner, language: Language) -> None:
    endless = {"JavaScript": "function transform() { for (;;); }", "Python": "def transform(u):\n  while True: pass"}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await runner.run(function(language, endless[language]), users(1), USER, USER, 5)
    assert await runner.run(function(language, IDENTITY[language]), users(2), USER, USER) == users(2)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_check_loads_and_does_not_run(runner: Runner, language: Language) -> None:
    await runner.check(function(language, IDENTITY[language]), USER, USER)
    with pytest.raises(FunctionFailed, match="no function named transform"):
        await runner.check(function(language, "a = 1"), USER, USER)
    with pytest.raises(FunctionFailed) as caught:
        await runner.check(function(language, "a = 1\nb = (\n)]"), USER, USER)
    assert caught.value.line in (2, 3)
    with pytest.raises(BadRequest, match="is none"):
        await runner.check(function(language, IDENTITY[language]), None, USER)


@pytest.mark.parametrize("seconds", [0, -1, 301])
async def test_limits_in_time_have_limits(runner: Runner, seconds: float) -> None:
    with pytest.raises(BadRequest, match="seconds"):
        await runner.run(function("Python", "x"), users(1), USER, USER, seconds)


async def test_languages(runner: Runner) -> None:
    assert runner.languages() == ("JavaScript", "Python")


# --- The processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_sandbox_is_confined(runner: Runner, language: Language) -> None:
    await runner.run(function(language, IDENTITY[language]), users(1), USER, USER)
    pids = [sandbox.pid for sandbox in runner._pools[language]._all]  # type: ignore[attr-defined]  # both have it
    process = Path(f"/proc/{next(filter(None, pids))}")
    status = dict(line.split(":\t", 1) for line in process.joinpath("status").read_text().splitlines() if ":\t" in line)
    assert process.joinpath("environ").read_bytes() == b""
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    links = [os.readlink(link) for link in process.joinpath("fd").iterdir()]
    assert [
        link for link in links if not link.startswith(("pipe:", "socket:", "anon_inode:", "/proc/", "/dev/null"))
    ] == []
    assert len([link for link in links if link.startswith("pipe:")]) == 2
    assert "(deleted)" in os.readlink(process / "cwd")
    limits = {line[:26].strip(): line[26:].split()[0] for line in process.joinpath("limits").read_text().splitlines()}
    assert (limits["Max core file size"], limits["Max file size"]) == ("0", "0")
    assert limits["Max data size"] != "unlimited"
    if os.getuid() == 0:
        assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
        assert status["Groups"].strip() == ""
        assert int(status["CapEff"], 16) == 0


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_worker_that_is_killed_is_replaced(runner: Runner, language: Language) -> None:
    written = function(language, IDENTITY[language])
    await runner.run(written, users(1), USER, USER)
    pids = [sandbox.pid for sandbox in runner._pools[language]._all]  # type: ignore[attr-defined]  # both have it
    for pid in filter(None, pids):
        os.kill(pid, signal.SIGKILL)
    for _ in range(5):
        try:
            assert await runner.run(written, users(2), USER, USER) == users(2)
            break
        except FunctionFailed:
            await asyncio.sleep(0.05)
    else:
        pytest.fail("not replaced")


PARENT = """
import asyncio, sys
from headwater.transforms.functions import Limits, Runner
from tests.transforms.functions.make import IDENTITY, USER, function

async def main():
    async with Runner(Limits(seconds=3), javascript=1, python=1) as runner:
        pids = []
        for language in ("JavaScript", "Python"):
            await runner.run(function(language, IDENTITY[language]), [{"id": 1}], USER, USER)
            pids += [sandbox.pid for sandbox in runner._pools[language]._all]
        print(*pids, flush=True)
        if sys.argv[1] == "busy":
            endless = {"JavaScript": "const transform = () => { for (;;); }",
                       "Python": "def transform(u):\\n while True: pass"}
            await asyncio.gather(*(
                runner.run(function(language, endless[language], owner=str(pids)), [{"id": 1}], USER, USER)
                for language in endless))
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
async def test_workers_die_with_their_parent(state: str) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, state, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert len(pids) == 2 and all(map(_lives, pids))
    await asyncio.sleep(0.3)
    parent.kill()
    await parent.wait()
    deadline = time.monotonic() + 8
    while any(map(_lives, pids)):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        await asyncio.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
