"""User functions in JavaScript and Python, in sandboxes without access to files, network or other processes.

    async with Runner() as runner:
        function = Function(owner, "Python", source, in_paths=("email",), out_paths=("domain",))
        await runner.check(function, in_schema, out_schema)             FunctionFailed, with the line
        for outcome in await runner.run(function, records, in_schema, out_schema):
            ...                                                         a record, or a RecordError

A record that fails has a `RecordError` as its outcome. A batch fails as a whole, with `FunctionFailed`, only if the
source does not load or exceeds a limit. The next call works. `docs/functions.md` is the documentation for users.
"""

from headwater.transforms.functions.contract import (
    LANGUAGES,
    MAX_SOURCE_LENGTH,
    Function,
    FunctionFailed,
    Language,
    Limits,
    Outcome,
    Purpose,
    RecordError,
)
from headwater.transforms.functions.prepared import Prepared, RunOutput, outcomes, prepare
from headwater.transforms.functions.runner import MAX_SECONDS, Runner

__all__ = [
    "LANGUAGES",
    "MAX_SECONDS",
    "MAX_SOURCE_LENGTH",
    "Function",
    "FunctionFailed",
    "Language",
    "Limits",
    "Outcome",
    "Prepared",
    "Purpose",
    "RecordError",
    "RunOutput",
    "Runner",
    "outcomes",
    "prepare",
]  # fmt: skip
