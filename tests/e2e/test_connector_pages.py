"""The commands of docs/connectors run, in their order, after those of the quick start."""

import pytest

from tests.connectors.test_pages import blocks
from tests.e2e.test_readme import make_script, run
from tests.system import RunningSystem


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("code", "names", "printed"),
    [
        ("http-webhook", ["setup"], '"id":'),
        ("segment-api", ["setup"], '"id":'),
        ("webhooks", ["setup", "call"], '{"success":true,"events":[{"outcome":"Processed","messageId":"hook-1"}]}'),
    ],
)
def test_the_commands_of_a_page_run(system: RunningSystem, code: str, names: list[str], printed: str) -> None:
    start = make_script(system).partition("\ncurl")[0]
    done = run("\n".join([start, "echo the page", *(blocks(code)[name] for name in names)]), system.data_dir)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout.partition("the page")[2], done.stdout
