"""The figures of accepting events: in batches, one event a request, and as a stream."""

import statistics
from pathlib import Path

from bench.baselines import parse_and_insert
from bench.cpu import seconds_by_process
from bench.load import Plan, Result, measure
from bench.running import catch_up, echo, memory, running
from bench.stream import measure_stream
from tests.system import RunningSystem

ROUNDS = 3


def intake(folder: Path, seconds: float) -> None:
    """Accepted events/s in batches of 100 through Envoy, durable, against orjson + SQLite in one process."""
    with running(folder) as (system, _connection, write_key):
        ratios = []
        for _ in range(ROUNDS):
            baseline = parse_and_insert(seconds / 2, folder).rate
            before = seconds_by_process(system.process.pid)
            result = measure(_batches(system, write_key, seconds))
            cost = _cost(result, before, seconds_by_process(system.process.pid))
            backlog = catch_up(system)
            rate = 100 * result.requests / result.seconds
            ratios.append(rate / baseline)
            print(
                f"  {rate:9,.0f} events/s   baseline {baseline:9,.0f}   ratio {rate / baseline:.2f}   "
                f"{_latency(result)}   all in the warehouse {backlog:.1f} s later\n    {cost}"
            )
        print(f"  ratio {statistics.median(ratios):.2f} (median; goal 0.6)   {memory(system)}")


def single(folder: Path, seconds: float) -> None:
    """Requests/s with one event each, 64 connections, durable, against a fixed response behind the same Envoy."""
    with running(folder / "system") as (system, _connection, write_key), echo(folder / "echo") as (port, baseline_pid):
        for _ in range(ROUNDS):
            before = seconds_by_process(baseline_pid)
            baseline = measure(Plan(port, "single", seconds, 64, "Bearer none", "/v1/track"))
            assert not baseline.failures
            baseline_cost = _cost(baseline, before, seconds_by_process(baseline_pid))
            before = seconds_by_process(system.process.pid)
            result = measure(_singles(system, write_key, seconds))
            cost = _cost(result, before, seconds_by_process(system.process.pid))
            rate, baseline_rate = result.requests / result.seconds, baseline.requests / baseline.seconds
            print(
                f"  {rate:9,.0f} events/s   baseline {baseline_rate:9,.0f}   ratio {rate / baseline_rate:.2f}   "
                f"{_latency(result)} (goal 4,000/s, p99 50 ms)\n    {cost}\n    baseline: {baseline_cost}"
            )
            catch_up(system)


def stream(folder: Path, seconds: float) -> None:
    """Events/s of one typed gRPC stream, 100 a request, durable (goal 15,000)."""
    with running(folder) as (system, _connection, write_key):
        for _ in range(ROUNDS):
            before = seconds_by_process(system.process.pid)
            result = measure_stream(system.port, write_key, seconds)
            cost = _cost(result, before, seconds_by_process(system.process.pid))
            backlog = catch_up(system)
            print(
                f"  {result.requests * 100 / result.seconds:9,.0f} events/s   {_latency(result)}   "
                f"all in the warehouse {backlog:.1f} s later\n    {cost}"
            )
        print(f"  {memory(system)}")


def backends(folder: Path, seconds: float) -> None:
    """Compare one and two backends, batches and single events: HEADWATER_BACKENDS=1 and 2, in turns."""
    for attempt in range(ROUNDS):
        for number in (1, 2):
            with running(folder / f"{attempt}-{number}", HEADWATER_BACKENDS=str(number)) as (system, _, write_key):
                for name, plan in (
                    ("batches", _batches(system, write_key, seconds)),
                    ("singles", _singles(system, write_key, seconds)),
                ):
                    before = seconds_by_process(system.process.pid)
                    result = measure(plan)
                    cost = _cost(result, before, seconds_by_process(system.process.pid))
                    rate = result.requests / result.seconds
                    print(f"  {number} backends, {name}: {rate:7,.0f} requests/s   {_latency(result)}\n    {cost}")
                    catch_up(system)
                print(f"    {memory(system)}")


def _batches(system: RunningSystem, write_key: str, seconds: float) -> Plan:
    return Plan(system.port, "batch", seconds, 16, f"Bearer {write_key}", "/v1/batch")


def _singles(system: RunningSystem, write_key: str, seconds: float) -> Plan:
    return Plan(system.port, "single", seconds, 64, f"Bearer {write_key}", "/v1/track")


def _latency(result: Result) -> str:
    return f"p50 {1000 * result.p50:.0f} ms  p99 {1000 * result.p99:.0f} ms   failed {result.failures}"


def _cost(result: Result, before: dict[str, float], after: dict[str, float]) -> str:
    """Return the processor time a request. Other work of the machine changes it less than it changes the rate."""
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()} | {"client": result.cpu_seconds}
    parts = [f"{name} {1e6 * seconds / result.requests:.0f}" for name, seconds in sorted(spent.items())]
    return f"processor time, µs a request: {', '.join(parts)}; all {1e6 * sum(spent.values()) / result.requests:.0f}"
