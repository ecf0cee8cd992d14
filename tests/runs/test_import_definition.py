"""Imports of any files: the identities are those of a direct reading of the definition."""

import csv
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.base.clock import microseconds
from headwater.catalog import TransformationDefinition
from headwater.schemas import IntType, ObjectType, Property, StringType, serialise
from tests.examples import examples
from tests.runs.scenario import csv_definition, open_scenario

IDS = st.sampled_from(["", "1", "2", "3", "4"])
NAMES = st.sampled_from(["ada", "bob", "too long for it", "skip"])
SCORES = st.sampled_from(["1", "2", "", "x", "300"])
TIMES = st.sampled_from(["2026-01-01", "2026-01-02T10:00:00Z", "2026-01-03", "9999-01-01", "never"])
FILES = st.lists(st.tuples(IDS, NAMES, SCORES, TIMES), max_size=8)
RUNS = st.lists(st.tuples(FILES, st.booleans()), min_size=1, max_size=4)

IN_SCHEMA = ObjectType(tuple(Property(name, StringType()) for name in ("id", "name", "score", "changed")))
OUT_SCHEMA = ObjectType((Property("name", StringType(max_length=5)), Property("score", IntType(8))))
DEFINITION = csv_definition(
    in_schema=serialise(IN_SCHEMA).decode(),
    out_schema=serialise(OUT_SCHEMA).decode(),
    transformation=TransformationDefinition(mapping={"name": "name", "score": "score"}),
    filter='{"logical":"and","conditions":[{"property":"name","operator":"is not","values":["skip"]}]}',
)


@dataclass
class Model:
    """The documented algorithm, record by record."""

    now: int
    identities: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    cursor: int | None = None

    def run(self, rows: list[tuple[str, str, str, str]], incremental: bool) -> None:
        since = cursor = self.cursor if incremental else None
        seen: set[str] = set()
        has_unidentified = False
        for id_, name, score, changed in rows:
            if not id_:
                has_unidentified = True
                continue
            if changed == "never":
                seen.add(id_)
                continue
            moment = datetime.fromisoformat(changed)
            at = microseconds(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
            if since is not None and at < since:
                continue
            if name == "skip":
                continue
            cursor = max(cursor or 0, min(at, self.now))
            seen.add(id_)
            if len(name) <= 5 and score in ("", "1", "2"):
                self.identities[id_] = at, {"name": name, **({"score": int(score)} if score else {})}
        if since is None and not has_unidentified:
            self.identities = {id_: each for id_, each in self.identities.items() if id_ in seen}
        self.cursor = cursor


def content(rows: list[tuple[str, str, str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([("id", "name", "score", "changed"), *rows])
    return text.getvalue().encode()


@given(RUNS)
@settings(max_examples=examples(15))
async def test_an_import_is_its_definition(runs: list[tuple[list[tuple[str, str, str, str]], bool]]) -> None:
    with TemporaryDirectory() as folder:
        async with open_scenario(Path(folder), DEFINITION) as scenario:
            model = Model(microseconds(scenario.clock.now()))
            for rows, incremental in runs:
                scenario.storage.files["users.csv"] = content(rows)
                await scenario.run(incremental=incremental)
                model.run(rows, incremental)
                assert await scenario.stored() == model.identities
                cursors = await scenario.rows("SELECT cursor FROM pipeline_cursors")
                assert [each for each in [model.cursor] if each is not None] == [row[0] for row in cursors]
