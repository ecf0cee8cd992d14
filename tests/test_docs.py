"""The documentation states the limits and defaults of the code."""

import re
from pathlib import Path

import pytest

from headwater.api.services.explanations import MAX_EXPLAINED_IDENTITIES
from headwater.catalog.profiles import DEFAULT_MAX_IDENTITIES, MAX_IDENTIFIERS
from headwater.cli.main import main
from headwater.events import DEFAULT_LIMITS, MAX_REJECTED_BYTES
from headwater.intake.unknownkeys import MAX_STORED_PER_SECOND, PREFIX_LENGTH
from headwater.management.profiles.planning import MAX_SCHEMA_BYTES
from headwater.management.profiles.settings import MAX_BLOCKED_CHARACTERS, MAX_BLOCKED_VALUES, MAX_MAX_IDENTITIES
from headwater.management.transformations import TRIAL_SECONDS
from headwater.processing.transformer import MAX_FUNCTION_SECONDS
from headwater.schemas import MAX_PROPERTIES
from headwater.server.scheduler import KEPT_AGE
from headwater.server.settings import MAX_RUNS, Settings, read, variable
from headwater.state.rejections import MAX_REJECTED, MAX_UNKNOWN_REJECTED
from headwater.state.runs import MAX_ATTEMPTS, MAX_ERRORS, MAX_KEPT
from headwater.state.runs.errors import MAX_MESSAGE_CHARACTERS, MAX_SAMPLES
from headwater.transforms.functions import MAX_SOURCE_LENGTH, Limits

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
FUNCTIONS = (ROOT / "docs" / "functions.md").read_text()
LIMITS = (ROOT / "docs" / "limits.md").read_text()
PROFILES = (ROOT / "docs" / "profiles.md").read_text()
PROFILES_PROTO = (ROOT / "protos" / "headwater" / "v1" / "profiles.proto").read_text()
EVENTS_PROTO = (ROOT / "protos" / "headwater" / "v1" / "events.proto").read_text()
DEFAULTS: Settings = read({})


def rows(page: str) -> dict[str, str]:
    """Return the second column of all tables of a page, by the first."""
    return {
        match[1].strip(): match[2].strip() for match in re.finditer(r"^\|([^|]+)\|([^|]+)\|", page, flags=re.MULTILINE)
    }


@pytest.mark.parametrize(
    ("limit", "stated"),
    [
        ("source", f"{MAX_SOURCE_LENGTH:,} characters, no NUL"),
        ("time in a pipeline of events", f"{MAX_FUNCTION_SECONDS:g} seconds for a run of records"),
        (
            "time otherwise: when a pipeline is enabled, and for a trial",
            f"{TRIAL_SECONDS:g} seconds",
        ),
        ("memory", f"{Limits().memory >> 20} MiB"),
        ("results of a batch", f"{Limits().output:,} characters of JSON"),
        ("printing (Python)", f"goes nowhere; over {Limits().printed >> 20} MiB in a batch is an error"),
    ],
)
def test_the_limits_of_functions_are_documented(limit: str, stated: str) -> None:
    assert rows(FUNCTIONS)[limit] == stated


@pytest.mark.parametrize(
    ("limit", "stated"),
    [
        ("run processes on a machine", f"`HEADWATER_RUNS`, {DEFAULTS.runs} unless set otherwise, at most {MAX_RUNS}"),
        ("runs of a pipeline that are kept", f"{MAX_KEPT:,}, for {KEPT_AGE.days} days"),
        (
            "different errors of a run",
            f"{MAX_ERRORS:,}, of each the first {MAX_SAMPLES} records; messages of {MAX_MESSAGE_CHARACTERS} characters",
        ),
        (
            "time without progress",
            f"`HEADWATER_RUN_TIMEOUT`, {DEFAULTS.run_timeout // 60} minutes unless set otherwise",
        ),
        ("run processes that end unexpectedly, without getting further", str(MAX_ATTEMPTS)),
    ],
)
def test_the_limits_of_runs_are_documented(limit: str, stated: str) -> None:
    assert rows(LIMITS)[limit] == stated


@pytest.mark.parametrize(
    ("page", "stated"),
    [
        (README, f"The latest {MAX_REJECTED:,} of each workspace are kept"),
        (README, f"the latest {MAX_UNKNOWN_REJECTED:,} are kept"),
        (README, f"Each backend process keeps up to\n{MAX_STORED_PER_SECOND} of them a second"),
        (README, f"the first {PREFIX_LENGTH} characters of their keys"),
        (EVENTS_PROTO, f"The latest {MAX_REJECTED:,} of a workspace"),
        (EVENTS_PROTO, f"Up to {MAX_STORED_PER_SECOND} such calls a second"),
        (EVENTS_PROTO, f"the latest {MAX_UNKNOWN_REJECTED:,} of them"),
        (EVENTS_PROTO, f"at most its first {MAX_REJECTED_BYTES >> 10} KiB"),
    ],
)
def test_the_limits_of_rejected_events_are_documented(page: str, stated: str) -> None:
    assert stated in page


@pytest.mark.parametrize(
    "name",
    [
        *("host", "port", "backends", "nats_replicas", "log_keep", "log_max_bytes", "log_max_lag_bytes"),
        *("max_event_bytes", "max_batch_bytes", "max_client_bytes", "metrics_host", "log_level"),
    ],
)
def test_the_defaults_of_settings_are_documented(name: str) -> None:
    table = {key.removesuffix(" *"): value for key, value in rows(README).items()}
    stated = table[f"`{variable(name)}`"].strip("`")
    assert getattr(read({variable(name): stated}), name) == getattr(DEFAULTS, name)


def test_the_limit_of_explanations_is_documented() -> None:
    stated = f"more than {MAX_EXPLAINED_IDENTITIES:,} identities"
    assert stated in PROFILES
    assert stated in PROFILES_PROTO


@pytest.mark.parametrize(
    ("limit", "stated"),
    [
        ("profile schema", f"{MAX_PROPERTIES:,} properties; {MAX_SCHEMA_BYTES:,} bytes of JSON"),
        (
            "identifiers of identity resolution",
            f"{MAX_IDENTIFIERS}; of each, {MAX_BLOCKED_VALUES:,} blocked values of up to {MAX_BLOCKED_CHARACTERS:,} "
            "characters",
        ),
    ],
)
def test_the_limits_of_profiles_are_documented(limit: str, stated: str) -> None:
    assert rows((ROOT / "docs" / "limits.md").read_text())[limit] == stated


def test_the_guards_of_identifiers_are_documented() -> None:
    page = (ROOT / "docs" / "profiles.md").read_text()
    assert f"up to {MAX_MAX_IDENTITIES:,} | {DEFAULT_MAX_IDENTITIES:,} |" in page
    assert f"values that count as absent; up to {MAX_BLOCKED_VALUES:,} |" in page


def test_the_settings_have_the_limits_of_events() -> None:
    """The supervisor imports the standard library only, so settings.py has a copy of them."""
    given = DEFAULTS.max_event_bytes, DEFAULTS.max_batch_bytes, DEFAULTS.max_client_bytes
    assert given == (DEFAULT_LIMITS.event_bytes, DEFAULT_LIMITS.batch_bytes, DEFAULT_LIMITS.client_bytes)


def test_the_readme_marks_the_settings_that_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    flags = set(re.findall(r"^ *--([a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    marked = {name[1:-3] for name in rows(README) if re.fullmatch(r"`HEADWATER_[A-Z_]+` \*", name)}
    assert marked == {variable(flag.replace("-", "_")) for flag in flags}
