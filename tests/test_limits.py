"""The pages about limits state the values of the code."""

from pathlib import Path

import pytest

from headwater.api.services.watching import HEARTBEAT_SECONDS
from headwater.connectors.contract import MAX_COLUMNS
from headwater.connectors.formats import workbooks as excel
from headwater.connectors.formats.csv import MAX_LINE_BYTES, MAX_ROW_BYTES
from headwater.connectors.formats.csv_rows import MAX_VALUE_CHARACTERS
from headwater.connectors.formats.excel import MAX_CELL_CHARACTERS, MAX_ROWS
from headwater.connectors.formats.json import MAX_RECORD_CHARACTERS
from headwater.events.wire import MAX_ID_BYTES
from headwater.filters import MAX_CONDITIONS, MAX_VALUES
from headwater.management.pipelines.rules import MAX_DEFINITION_BYTES
from headwater.observe.listeners import (
    DEFAULT_SIZE,
    IDLE_SECONDS,
    MAX_LISTENER_BYTES,
    MAX_LISTENERS,
    MAX_SIZE,
    MAX_WORKSPACE_BYTES,
)
from headwater.observe.live import MAX_WAITING_BYTES
from headwater.observe.watching import MAX_QUEUE_BYTES, MAX_QUEUED_OUTCOMES, MAX_WATCHERS
from headwater.runs.compression import LIMITS as INFLATION
from headwater.runs.files import MAX_SPOOLED_BYTES
from headwater.runs.importing.applications import MAX_EMPTY_PAGES
from headwater.runs.importing.databases import MAX_LIMIT
from headwater.runs.importing.importing import MAX_WAITING_BATCHES
from headwater.runs.importing.mapping import FUNCTION_RECORDS
from headwater.runs.importing.records import MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_READ_BYTES, MAX_READ_ROWS
from headwater.schemas import MAX_DEPTH, MAX_JSON_DEPTH, MAX_PROPERTIES
from headwater.state import MAX_ATTRIBUTES_BYTES
from headwater.state.imports import MAX_TRACKED
from headwater.transforms.functions import MAX_SOURCE_LENGTH, Limits
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from headwater.transforms.mapping import MAX_DEPTH as MAX_CALL_DEPTH
from headwater.transforms.mapping import MAX_EXPRESSIONS_CHARACTERS, MAX_EXPRESSIONS_PARTS, MAX_LENGTH
from headwater.transforms.mapping.evaluation import MAX_READ_CHARACTERS, SMALL_CHARACTERS
from headwater.transforms.mapping.sizes import SCALAR_CHARACTERS

DOCS = Path(__file__).parents[1] / "docs"
SENTENCES = {
    "limits.md": [
        f"{MAX_PROPERTIES:,} properties",
        f"types nested {MAX_DEPTH} deep",
        f"{MAX_DEFINITION_BYTES:,} bytes of JSON",
        f"{MAX_LENGTH:,} characters, calls nested {MAX_CALL_DEPTH} deep",
        f"{MAX_EXPRESSIONS_CHARACTERS:,} characters; {MAX_EXPRESSIONS_PARTS:,} constants",
        f"| source of a function | {MAX_SOURCE_LENGTH:,} characters |",
        f"{MAX_CONDITIONS:,} conditions; {MAX_VALUES:,} values",
        f"| function: result of one record | {MAX_RESULT_CHARACTERS:,} characters of JSON |",
        f"of all properties of one record | {MAX_RESULT_CHARACTERS:,} characters,",
        f"(above {SMALL_CHARACTERS:,} characters)",
        f"| {MAX_READ_CHARACTERS:,} characters.",
        f"nested {MAX_JSON_DEPTH} deep |",
        f"| attributes of an identity | {MAX_ATTRIBUTES_BYTES:,} bytes of JSON |",
        f"Any other scalar counts\n{SCALAR_CHARACTERS}.",
    ],
    "watching.md": [
        f"| watches of a workspace | {MAX_WATCHERS} in each backend process",
        f"for a slow watcher | {MAX_QUEUE_BYTES >> 20} MiB of events and {MAX_QUEUED_OUTCOMES:,} outcomes;",
        f"| listeners of a workspace | {MAX_LISTENERS} |",
        f"| 1 to {MAX_SIZE} events, {DEFAULT_SIZE} by default; {MAX_LISTENER_BYTES >> 20} MiB, ",
        f" MiB, and {MAX_WORKSPACE_BYTES >> 20} MiB for all listeners",
        f"| time without reading a listener | {IDLE_SECONDS / 3600:.0f} hour; then it is removed |",
        f"of a workspace that wait for it are at most {MAX_WAITING_BYTES >> 20} MiB |",
        f"After {HEARTBEAT_SECONDS:.0f} seconds without an event",
    ],
    "imports.md": [
        f"1 to {MAX_ID_BYTES:,} bytes without NUL",
        f"more than {MAX_ATTRIBUTES_BYTES:,} bytes of JSON |",
        f"returns {MAX_EMPTY_PAGES:,} empty pages in a row",
        f"changed more than {MAX_TRACKED:,} identities",
        f"| {MAX_READ_ROWS:,}, or {MAX_READ_BYTES >> 20} MiB of values |",
        f"else up to {MAX_BATCH_ROWS:,}; and up to {MAX_READ_ROWS - 1} more; or {MAX_BATCH_BYTES >> 20} MiB of",
        f"| batches that wait for the store, with the one that is stored | {MAX_WAITING_BATCHES} |",
        f"| records of one call of a function | {FUNCTION_RECORDS:,} |",
        f"`${{limit}}` is {MAX_LIMIT}",
    ],
    "files.md": [
        f"| columns | {MAX_COLUMNS:,} |",
        f"| {MAX_VALUE_CHARACTERS:,} characters; {MAX_LINE_BYTES >> 20} MiB; {MAX_ROW_BYTES >> 20} MiB |",
        f"| {MAX_RECORD_CHARACTERS:,} characters; {MAX_JSON_DEPTH} levels |",
        f"| {excel.MAX_VALUE_CHARACTERS:,} characters; {MAX_CELL_CHARACTERS:,} |",
        f"| {MAX_ROWS:,} with the header |",
        f"| Excel: one decompressed sheet | {excel.MAX_PART_BYTES >> 30} GiB |",
        f"| {INFLATION.max_bytes >> 30} GiB, and {INFLATION.max_ratio} times the compressed size "
        f"after {INFLATION.free_bytes >> 20} MiB |",
        f"| copy of a file that must be read at any position | {MAX_SPOOLED_BYTES >> 30} GiB |",
    ],
    "functions.md": [
        f"| result of one record | {MAX_RESULT_CHARACTERS:,} characters of JSON",
        f"| results of a batch | {Limits().output:,} characters of JSON |",
        f"| source | {MAX_SOURCE_LENGTH:,} characters",
        f"| memory | {Limits().memory >> 20} MiB |",
    ],
}


@pytest.mark.parametrize(("page", "sentence"), [(page, one) for page, each in SENTENCES.items() for one in each])
def test_a_page_states_the_limit_of_the_code(page: str, sentence: str) -> None:
    assert sentence in (DOCS / page).read_text()
