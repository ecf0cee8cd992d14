"""The outcomes of real deliveries, as watchers, counts, errors and metrics show them."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.receiver import Received, receiver
from tests.e2e.source import get, make_source
from tests.e2e.test_delivery import add_destination, send
from tests.e2e.test_pipeline_counts import totals
from tests.e2e.test_watching import watch
from tests.system import HTTP, RunningSystem, free_port, start, wait_until
from tests.tenants import add_tenant


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[RunningSystem]:
    running = start(
        tmp_path_factory.mktemp("outcomes") / "data",
        HEADWATER_ALLOW_PRIVATE_DESTINATIONS="1",
        HEADWATER_BACKENDS="2",
        HEADWATER_METRICS_PORT=str(metrics_port),
    )
    yield running
    assert running.stop() == 0, running.errors


def refuse_the_second(request: Received) -> tuple[int, dict[str, str], bytes]:
    return (400, {}, b"not this one") if b'"n":1' in request.body else (204, {}, b"")


async def test_each_attempt_is_shown_and_counted(system: RunningSystem, metrics_port: int) -> None:
    source = make_source(system)
    other = add_tenant(system, "Other")
    with receiver(refuse_the_second) as hook:
        destination = add_destination(source, hook.url)
        (pipeline,) = (each["id"] for each in get(system, f"/v1/connections/{destination}")["pipelines"])
        async with (
            watch(system, connection=destination, deliveries="true") as own,
            watch(other, deliveries="true") as theirs,
        ):
            send(source, ["ada"] * 2)
            assert [(await own.next("event"))["messageId"] for _ in range(2)] == ["m0", "m1"]
            delivered, refused = await own.next("delivery"), await own.next("delivery")
            assert await theirs.is_silent()
    assert (delivered["messageId"], delivered["outcome"], delivered["status"]) == ("m0", "Passed", 204)
    assert (refused["messageId"], refused["outcome"], refused["status"]) == ("m1", "Failed", 400)
    assert {each["destination"] for each in (delivered, refused)} == {destination}
    assert {each["pipeline"] for each in (delivered, refused)} == {pipeline}
    assert refused["message"]
    expected = [2, 0, 2, 2, 2, 1], [0, 0, 0, 0, 0, 1]
    wait_until(lambda: totals(system, "minutes/60", pipeline) == expected, 30)
    (error,) = get(system, f"/v1/pipelines/errors/2000-01-01/2100-01-01?pipelines={pipeline}")["errors"]
    assert (error["step"], error["count"], error["message"]) == (5, 1, refused["message"])
    page = HTTP.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    ended = re.findall(
        rf'^headwater_delivery_events_total{{.*destination="{destination}".*}} (\S+)', page, re.MULTILINE
    )
    assert ended == ["1.0", "1.0"], page
