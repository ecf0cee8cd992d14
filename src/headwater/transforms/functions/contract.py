"""The interface of functions for all languages: functions, sandboxes, outcomes and errors.

A failure of one record is a value, `RecordError`. A failure of the whole batch is an exception, `FunctionFailed`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, get_args

from msgspec import Struct

from headwater.base.errors import BadRequest, Unprocessable
from headwater.base.steps import ProcessingStep
from headwater.schemas import ObjectType, Path, Record, Schema, parse_path

Language = Literal["JavaScript", "Python"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

Purpose = Literal["Import", "Create", "Update"]
"""The use of the results. An import drops a null that the schema does not allow. When a record is created or updated in
a destination, such a null is an error, and the required properties must be present."""

MAX_SOURCE_LENGTH: Final = 50_000
"""Maximum length of a function's source, in code points."""


@dataclass(frozen=True, slots=True)
class Function:
    """A user function: `transform`, from one record to one record. Raises BadRequest if its text or paths break a rule.
    Only a sandbox finds out whether the source compiles."""

    owner: str
    """The scope of values that the function keeps between calls: the workspace, the pipeline and the version, or a
    random text for a trial. Functions with different owners never share a context, even if everything else is equal."""
    language: Language
    source: str
    preserve_json: bool = False
    """Whether values of kind json are passed as JSON text instead of native values, so that all digits are kept."""
    in_paths: tuple[str, ...] = ()
    """The properties that the function receives. Without any it receives an empty record."""
    out_paths: tuple[str, ...] = ()
    """The properties that it may return."""

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise BadRequest(f"language must be one of {', '.join(LANGUAGES)}", field="language")
        if not self.source:
            raise BadRequest("source must not be empty", field="source")
        if len(self.source) > MAX_SOURCE_LENGTH:
            raise BadRequest(f"source must have at most {MAX_SOURCE_LENGTH} characters", field="source")
        if "\0" in self.source:
            raise BadRequest("source must not contain NUL", field="source")
        try:
            self.source.encode()
        except UnicodeEncodeError:
            raise BadRequest("source must not contain lone surrogates", field="source") from None
        _check_overlap("inPaths", self.in_paths)
        _check_overlap("outPaths", self.out_paths)

    def check_paths(self, in_schema: Schema | None, out_schema: Schema | None) -> None:
        """Raise BadRequest if a path is not in its schema, or leads through an array or a map."""
        _check_paths("inPaths", self.in_paths, in_schema)
        _check_paths("outPaths", self.out_paths, out_schema)


class RecordError(Struct, frozen=True):
    """The reason why one record has no result. The other records of the batch are not affected."""

    step: ProcessingStep
    """"Transformation": the function failed. "OutputValidation": its result does not conform to the output schema."""
    message: str
    """A message for people. The message of a function's own exception starts with the language; property paths are in
    «…»."""
    line: int | None = None
    """The line of the source, from 1; None if the error has no line there."""


Outcome: TypeAlias = Record | RecordError
"""The result for one record, as values of the output schema, or the reason why there is none."""


class FunctionFailed(Unprocessable):
    """The whole batch failed: the source does not compile, or exceeded a limit. No record was transformed."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__("TransformationFailed", message if line is None else f"{message} (line {line})")
        self.line = line
        """The line of the source, from 1; None if the failure has no line there."""

    @property
    def details(self) -> dict[str, str]:
        return {} if self.line is None else {"line": str(self.line)}


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of one function. If it exceeds a limit, the batch fails and the sandbox is replaced."""

    seconds: float = 10.0
    """Default for one batch."""
    memory: int = 128 << 20
    """Bytes of the function's own values, in a sandbox that itself needs up to 100 MB."""
    output: int = 8 << 20
    """Characters of the JSON of all results of a batch."""
    printed: int = 1 << 20
    """Bytes that a batch may print. The output is discarded."""


class Program(Protocol):
    """A function compiled for one pair of schemas. A sandbox loads it, and then runs it on batches of JSON text."""

    @property
    def key(self) -> object:
        """Return the key. Programs with equal keys may share a context."""

    @property
    def source(self) -> str:
        """Return the source that the user wrote."""

    @property
    def adapter(self) -> str:
        """Return the generated code around it, in the function's language: the loop, and the conversion of values."""


@dataclass(frozen=True, slots=True)
class Results:
    """The output of a sandbox for a batch. Do not trust it: user code may have changed it."""

    text: bytes
    """One line for each record. If no record failed, each line is the JSON text of a result."""
    split: Callable[[], Sequence[str | RecordError]]
    """Returns the lines separately, as errors if they are not results."""


class Sandbox(Protocol):
    """One sandbox for functions of one language. It runs one batch at a time, starts on demand, and starts again after
    it was stopped."""

    def holds(self, key: object) -> bool:
        """Return whether the program with this key is loaded."""

    async def run(self, program: Program, batch: bytes, seconds: float) -> Results:
        """Return the results for a JSON array of records.

        Raises FunctionFailed. The sandbox is usable again afterwards, also after a cancellation.
        """

    async def load(self, program: Program, seconds: float) -> None:
        """Compile the program and run the code outside `transform`. Raises FunctionFailed."""

    async def stop(self) -> None:
        """End the process, if there is one."""


def _check_overlap(field: str, paths: tuple[str, ...]) -> None:
    known = set(paths)
    if len(known) != len(paths):
        raise BadRequest(f"{field} must not contain a path twice", field=field)
    for index, path in enumerate(paths):
        components = parse_path(path)
        for length in range(1, len(components)):
            parent = ".".join(components[:length])
            if parent in known:
                raise BadRequest(f"{field} must not contain both {parent} and {path}", field=f"{field}[{index}]")


def _check_paths(field: str, paths: tuple[str, ...], schema: Schema | None) -> None:
    for index, path in enumerate(paths):
        if schema is None or not _leads(schema, parse_path(path)):
            raise BadRequest(
                f"{field} must name properties of the schema, and {path} is none", field=f"{field}[{index}]"
            )


def _leads(schema: Schema, path: Path) -> bool:
    here: object = schema
    for component in path:
        property = here.get(component) if isinstance(here, ObjectType) else None
        if property is None:
            return False
        here = property.type
    return True
