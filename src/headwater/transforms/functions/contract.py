"""What a function is, what running it gives, and how it fails: the words that every language shares.

A failure of one record is a value, `RecordError`; a failure of the whole batch is an exception, `FunctionFailed`.
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
"""What the results are for. When importing, a null where there may be none is dropped; when a record is created or
updated in a destination it is an error, and what the schema requires must be there."""

MAX_SOURCE_LENGTH: Final = 50_000
"""Of a function's source, in code points."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function as people write it: `transform`, of one record, returning a record. Raises BadRequest when a rule
    about its text or paths is broken; whether it compiles is for a sandbox to say."""

    owner: str
    """Who may see what the function remembers between calls: the workspace, the pipeline and the version, or a random
    text for a trial. Functions with different owners never share a context, even when everything else is equal."""
    language: Language
    source: str
    preserve_json: bool = False
    """Whether values of kind json are passed as JSON text instead of native values, so that every digit survives."""
    in_paths: tuple[str, ...] = ()
    """The properties that the function gets; with none it gets an empty record."""
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
        """Raises BadRequest when a path is not in its schema, or leads through an array or a map."""
        _check_paths("inPaths", self.in_paths, in_schema)
        _check_paths("outPaths", self.out_paths, out_schema)


class RecordError(Struct, frozen=True):
    """Why one record has no result. The other records of the batch are not affected."""

    step: ProcessingStep
    """"Transformation": the function failed. "OutputValidation": its result does not conform to the output schema."""
    message: str
    """For people. Of a function's own exception it starts with the language; property paths stand in «…»."""
    line: int | None = None
    """Of the source, from 1; None when the error is not at a line of it."""


Outcome: TypeAlias = Record | RecordError
"""The result for one record: what the function returned, as values of the output schema, or why there is none."""


class FunctionFailed(Unprocessable):
    """The whole batch failed: the source does not compile, or a limit was reached. Nothing was transformed."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__("TransformationFailed", message if line is None else f"{message} (line {line})")
        self.line = line
        """Of the source, from 1; None when the failure is not at a line of it."""

    @property
    def details(self) -> dict[str, str]:
        return {} if self.line is None else {"line": str(self.line)}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one function may use. Over a limit the batch fails, and the sandbox is replaced."""

    seconds: float = 10.0
    """For one batch, when the caller says nothing else."""
    memory: int = 128 << 20
    """Bytes that the function's own values may take, in a sandbox that itself needs up to 100 MB."""
    output: int = 8 << 20
    """Characters of the JSON of all results of a batch."""
    printed: int = 1 << 20
    """Bytes that a batch may print. What is printed is thrown away."""


class Program(Protocol):
    """A function made ready for one pair of schemas: what a sandbox loads, and then runs on batches of JSON text."""

    @property
    def key(self) -> object:
        """Equal for programs that may share a context."""

    @property
    def source(self) -> str:
        """As people wrote it."""

    @property
    def adapter(self) -> str:
        """Code of our own, in the function's language, around it: the loop, and the conversion of values."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a sandbox gave for a batch. Whoever reads it believes nothing of it."""

    text: bytes
    """A line for each record: when none failed, the JSON text of each result."""
    each: Callable[[], Sequence[str | RecordError]]
    """The lines one by one, those that are not results as the errors that they stand for."""


class Sandbox(Protocol):
    """One place where functions of one language run, one batch at a time. It starts when it is needed, and again after
    it was ended."""

    def holds(self, key: object) -> bool:
        """Whether the program with this key is loaded."""

    async def run(self, program: Program, batch: bytes, seconds: float) -> Results:
        """The results for a JSON array of records.

        Raises FunctionFailed; the sandbox is usable again afterwards, as it is after a cancellation.
        """

    async def load(self, program: Program, seconds: float) -> None:
        """Only compile it, and run what stands outside `transform`. Raises FunctionFailed."""

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
