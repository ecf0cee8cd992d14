"""The compiled pipelines of each source, and of the destinations that are linked with it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog
from msgspec import Struct

from headwater.base.errors import HeadwaterError
from headwater.base.steps import ProcessingStep
from headwater.base.throttle import Throttle
from headwater.catalog import Catalog, Connection, Definition, Pipeline, ProfileSchema
from headwater.connectors.connector import Role
from headwater.connectors.registry import CONNECTORS
from headwater.filters import Predicate, check_filter, compile_filter, parse_json
from headwater.processing.transformer import MisalignedTransformer, Transformer, compile_mapping, has_function
from headwater.profiles.alignment import find_misalignment, find_profile_schema
from headwater.schemas import EVENT_SCHEMA
from headwater.state import Step

MAX_MESSAGE: Final = 500
"""Maximum length of the reason that is stored with each failed event, in characters."""

_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


def log_failed(pipeline: int, step: ProcessingStep) -> None:
    """Log, once a minute, the number of events that fail in a step of a pipeline. The trace has the reasons."""
    if count := _throttle.passes((pipeline, step)):
        _log.warning("events fail in a pipeline", pipeline=pipeline, step=step, count=count)


class CompiledPipeline(Struct, frozen=True):
    """A compiled pipeline."""

    pipeline: int
    connection: int
    passes: Predicate | None
    """The filter; None for a pipeline without one."""
    reads_context: bool
    """True if the filter reads the context of events."""
    mapping: Transformer | None
    """The transformation that the worker runs: a mapping, or one that fails every record."""
    is_function: bool
    """True if its transformation is a function, which never runs in the worker."""
    passed: Step
    """The trace step of an event that passed all steps."""
    filtered: Step
    """The trace step of an event that the filter rejected."""
    pending: Step
    """The trace step of an event that waits: in the lane of the pipeline, or for its destination."""

    def failed(self, message: str, step: ProcessingStep = "Transformation") -> Step:
        """Return the trace step of an event that failed, and log it."""
        log_failed(self.pipeline, step)
        return Step(self.pipeline, self.connection, step, "Failed", message[:MAX_MESSAGE])

    @property
    def needs_record(self) -> bool:
        """True if it reads the content of events."""
        return self.passes is not None or self.transforms

    @property
    def transforms(self) -> bool:
        """True if it has a transformation."""
        return self.mapping is not None or self.is_function


class LinkedDestination(Struct, frozen=True):
    """A destination to which a source forwards events, with its enabled Event pipelines."""

    connection: int
    names: frozenset[str]
    """The names by which the `integrations` of an event refer to it, in lower case."""
    pipelines: tuple[CompiledPipeline, ...]


class SourcePlan(Struct, frozen=True):
    """The pipelines of a source."""

    event_pipeline: CompiledPipeline | None = None
    """The pipeline that stores its events, if any."""
    user_pipelines: tuple[CompiledPipeline, ...] = ()
    """The enabled User pipelines."""
    user_ids: tuple[int, ...] = ()
    """All User pipelines, including disabled ones: claims and aliases have effect in their identities."""
    is_plain: bool = True
    """True if none of the pipelines reads the content of events."""
    event_steps: tuple[Step, ...] = ()
    """The trace steps of an event that is stored and concerns no user."""
    all_steps: tuple[Step, ...] = ()
    """The trace steps of an event that every pipeline accepted."""
    enabled_ids: tuple[int, ...] = ()
    """The ids of `user_pipelines`."""
    destinations: tuple[LinkedDestination, ...] = ()
    """The linked destinations that have an enabled Event pipeline, by id."""


class PlanCache:
    """The plans of all sources. A compiled pipeline is kept until its definition or the profile schema changes."""

    def __init__(self, catalog: Catalog, *, delivers: bool = False) -> None:
        """If `delivers` is false, the plans have no destinations."""
        self._catalog = catalog
        self._delivers = delivers
        self._plans: dict[tuple[int, int], SourcePlan] = {}
        self._compiled: dict[int, tuple[Definition, int, CompiledPipeline | None]] = {}
        """By pipeline: its definition, the version of the profile schema, and the pipeline compiled with both."""

    def refresh(self) -> None:
        """Read the present catalog. It is called at the start of a batch, so that all its events get the same
        pipelines."""
        self._plans.clear()

    def for_source(self, workspace: int, connection_id: int) -> SourcePlan:
        """Return the plan of a source; an empty one if the source does not exist."""
        source = workspace, connection_id
        plan = self._plans.get(source)
        if plan is None:
            plan = self._plans[source] = self._plan(*source)
        return plan

    def _plan(self, workspace: int, connection_id: int) -> SourcePlan:
        connection = self._catalog.connection(workspace, connection_id)
        if connection is None:
            return SourcePlan()
        users = [pipeline for pipeline in connection.pipelines if pipeline.target == "User"]
        storing = self._ready(pipeline for pipeline in connection.pipelines if pipeline.target == "Event")
        seeing = self._ready(users)
        # A source has at most one Event pipeline, and an event is stored once.
        event_steps = tuple(each.passed for each in storing[:1])
        return SourcePlan(
            event_pipeline=storing[0] if storing else None,
            user_pipelines=seeing,
            user_ids=tuple(pipeline.id for pipeline in users),
            is_plain=not any(each.needs_record for each in (*storing[:1], *seeing)),
            event_steps=event_steps,
            all_steps=(*event_steps, *(each.passed for each in seeing)),
            enabled_ids=tuple(each.pipeline for each in seeing),
            destinations=self._destinations(connection),
        )

    def _destinations(self, source: Connection) -> tuple[LinkedDestination, ...]:
        """Return the destinations of a source. A destination whose events are sent by the client gets none."""
        found = []
        for id_ in source.linked_connections if self._delivers else ():
            linked = self._catalog.connection(source.workspace, id_)
            if linked is None or linked.role != "Destination" or linked.sending_mode == "Client":
                continue
            if pipelines := self._ready(pipeline for pipeline in linked.pipelines if pipeline.target == "Event"):
                found.append(LinkedDestination(id_, integration_names(linked.connector), pipelines))
        return tuple(found)

    def _ready(self, pipelines: Iterable[Pipeline]) -> tuple[CompiledPipeline, ...]:
        enabled = (pipeline for pipeline in pipelines if pipeline.enabled)
        return tuple(compiled for pipeline in enabled if (compiled := self._compile(pipeline)) is not None)

    def _compile(self, pipeline: Pipeline) -> CompiledPipeline | None:
        """Compile a pipeline; None if that fails, so that the other pipelines run.

        A definition was checked when it was stored; only rules that have changed since can reject it.
        """
        profiles = find_profile_schema(self._catalog, pipeline.workspace)
        version = 0 if profiles is None else profiles.version
        known = self._compiled.get(pipeline.id)
        if known is None or known[0] != pipeline.definition or known[1] != version:
            try:
                compiled = _compile(pipeline, self._role(pipeline), profiles)
            except HeadwaterError as error:
                _log.error("a pipeline cannot run", pipeline=pipeline.id, reason=error.message)
                compiled = None
            except Exception as error:  # a bug, which may not reject the events of the source
                _log.exception("internal error in compiling a pipeline", pipeline=pipeline.id)
                compiled = _failing(pipeline, type(error).__name__)
            known = self._compiled[pipeline.id] = (pipeline.definition, version, compiled)
        return known[2]

    def _role(self, pipeline: Pipeline) -> Role:
        connection = self._catalog.connection(pipeline.workspace, pipeline.connection)
        return "Source" if connection is None else connection.role


def integration_names(connector: str) -> frozenset[str]:
    """Return the names by which the `integrations` of an event refer to a connector, in lower case."""
    known = CONNECTORS.get(connector)
    return frozenset({connector.lower()} if known is None else {connector.lower(), known.label.lower()})


def _failing(pipeline: Pipeline, error: str) -> CompiledPipeline:
    """Return a pipeline in which every event fails at the filter."""

    def fail(_record: Mapping[str, Any]) -> bool:
        raise RuntimeError(f"the pipeline cannot be compiled: {error}")

    return _compiled(pipeline, fail, None, is_function=False)


def _compile(pipeline: Pipeline, role: Role, profiles: ProfileSchema | None) -> CompiledPipeline:
    """Compile the filter, and for a source the transformation: the courier transforms what a destination gets.

    The transformation of a pipeline that does not fit the profile schema fails every record.
    """
    filter_ = None if pipeline.definition.filter is None else parse_json(pipeline.definition.filter)
    passes, reads_context = None, False
    if filter_ is not None:
        checked = check_filter(filter_, EVENT_SCHEMA, role=role, target=pipeline.target)
        passes, reads_context = compile_filter(checked), any(each.path[0] == "context" for each in checked.conditions)
    if role == "Destination":
        return _compiled(pipeline, passes, None, is_function=False, reads_context=reads_context, waits_at="Finalize")
    difference = find_misalignment(pipeline.definition, role, pipeline.target, profiles)
    if difference is not None:
        _log.warning("a pipeline does not fit the profile schema", pipeline=pipeline.id, reason=difference.cause)
        return _compiled(pipeline, passes, MisalignedTransformer(difference), is_function=False)
    return _compiled(pipeline, passes, compile_mapping(pipeline), is_function=has_function(pipeline))


def _compiled(
    pipeline: Pipeline,
    passes: Predicate | None,
    mapping: Transformer | None,
    *,
    is_function: bool,
    reads_context: bool = True,
    waits_at: ProcessingStep = "Transformation",
) -> CompiledPipeline:
    return CompiledPipeline(
        pipeline=pipeline.id,
        connection=pipeline.connection,
        passes=passes,
        reads_context=reads_context,
        mapping=mapping,
        is_function=is_function,
        passed=Step(pipeline.id, pipeline.connection, "Finalize", "Passed"),
        filtered=Step(pipeline.id, pipeline.connection, "Filter", "Filtered"),
        pending=Step(pipeline.id, pipeline.connection, waits_at, "Pending"),
    )
