"""Functions of users: users a second through the runner, with all its conversions and checks, against the bare sandbox.
The baseline runs the same source on the same users as JSON, without processes, checks or schemas."""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop

from headwater.schemas import BooleanType, IntType, ObjectType, Property, Record, StringType
from headwater.transforms.functions import Function, Language, Runner

BATCH = 1000
ROUNDS = 3
SCHEMA = ObjectType(
    (
        Property("id", IntType(32)),
        Property("name", StringType(max_length=100)),
        Property("email", StringType()),
        Property("active", BooleanType()),
    )
)
PATHS = tuple(property.name for property in SCHEMA)
USERS: list[Record] = [
    {"id": number, "name": "Ada Lovelace", "email": f"ada{number}@example.com", "active": True}
    for number in range(BATCH)
]
SOURCES: dict[Language, str] = {
    "JavaScript": "function transform(user) { user.name = user.name.toUpperCase(); return user }",
    "Python": "def transform(user):\n    user['name'] = user['name'].upper()\n    return user",
}
GOALS: dict[Language, int] = {"JavaScript": 200_000, "Python": 100_000}


def functions(folder: Path, seconds: float) -> None:
    """Users/s in batches of 1000 through JavaScript and Python functions, against the bare sandboxes."""
    uvloop.run(_functions(seconds))


async def _functions(seconds: float) -> None:
    async with Runner(python=2) as runner:
        for language, source in SOURCES.items():
            written = Function("bench", language, source, in_paths=PATHS, out_paths=PATHS)

            async def call(written: Function = written) -> None:
                await runner.run(written, USERS, SCHEMA, SCHEMA)

            await _rate(call, 1, 0.5)
            ratios = []
            for _ in range(ROUNDS):
                baseline = await _baseline(language, seconds / 2)
                alone = await _rate(call, 1, seconds / 2)
                ratios.append(alone / baseline)
                together = await _rate(call, 2, seconds / 2)
                print(
                    f"  {language:10} {alone:9,.0f} users/s   two batches at a time {together:9,.0f}   "
                    f"baseline {baseline:9,.0f}   ratio {alone / baseline:.2f} and {together / baseline:.2f}"
                )
            small = [await _once(runner, written) for _ in range(200)]
            print(
                f"  {language:10} ratio {statistics.median(ratios):.2f} "
                f"(median; goal 0.5, and {GOALS[language]:,} users/s)   "
                f"one user alone: p50 {1000 * statistics.median(small):.2f} ms"
            )


async def _rate(call: Callable[[], Awaitable[None]], tasks: int, seconds: float) -> float:
    """Return users a second with this number of batches in flight."""
    end = time.perf_counter() + seconds
    count = 0

    async def repeat() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*(repeat() for _ in range(tasks)))
    return BATCH * count / (time.perf_counter() - began)


async def _once(runner: Runner, written: Function) -> float:
    began = time.perf_counter()
    await runner.run(written, USERS[:1], SCHEMA, SCHEMA)
    return time.perf_counter() - began


async def _baseline(language: Language, seconds: float) -> float:
    """Return users a second of the bare sandbox. It runs in a process of its own, because V8 may not release one."""
    command = [sys.executable, "-m", "bench.functions", language, str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return float(output)


def _bare_javascript(seconds: float) -> float:
    from py_mini_racer import JSFunction, MiniRacer

    loop = """(text) => {
        let lines = "";
        for (const user of JSON.parse(text)) lines += JSON.stringify(transform(user)) + "\\n";
        return lines }"""
    racer = MiniRacer()
    racer.eval(SOURCES["JavaScript"])
    run = racer.eval(loop)
    assert isinstance(run, JSFunction)
    return _repeat(lambda text: run(text), seconds)


def _bare_python(seconds: float) -> float:
    from pydantic_monty import Monty

    loop = """
import json
def run(text):
    lines = []
    for user in json.loads(text):
        lines.append(json.dumps(transform(user)))
    return "\\n".join(lines)
"""
    with Monty() as pool, pool.checkout(limits={"max_feed_duration_secs": 10}) as session:
        session.feed_run(SOURCES["Python"])
        session.feed_run(loop)
        return _repeat(lambda text: session.feed_run("run(text)", inputs={"text": text}), seconds)


def _repeat(run: Callable[[str], object], seconds: float) -> float:
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode_lines
    run(encode(USERS).decode())
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < seconds:
        assert len(decode(str(run(encode(USERS).decode())))) == BATCH
        count += 1
    return BATCH * count / (time.perf_counter() - began)


if __name__ == "__main__":
    print((_bare_javascript if sys.argv[1] == "JavaScript" else _bare_python)(float(sys.argv[2])), flush=True)
    os._exit(0)
