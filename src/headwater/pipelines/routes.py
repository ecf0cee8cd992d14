"""Which pipelines the events of a source go through, and what each lets through and makes of them."""

from collections.abc import Iterable
from typing import Final

import structlog
from msgspec import Struct

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog, Definition, Pipeline
from headwater.filters import Predicate, check_filter, compile_filter, parse_json
from headwater.pipelines.transformer import Transformer, transformer_of
from headwater.schemas import EVENT_SCHEMA
from headwater.transforms.functions import Runner
from headwater.warehouse import Step

MAX_MESSAGE: Final = 500
"""How many characters of a failure's reason are remembered with each event that failed."""

_log = structlog.get_logger(__name__)


class Route(Struct, frozen=True):
    """A pipeline, made ready for events."""

    pipeline: int
    connection: int
    passes: Predicate | None
    """Whether an event goes through; None for all of them."""
    transformer: Transformer | None
    passed: Step
    """What is remembered of an event that went through all of it."""
    filtered: Step
    """What is remembered of an event that its filter held back."""

    def failed(self, message: str) -> Step:
        """What is remembered of an event that it could not transform."""
        return Step(self.pipeline, self.connection, "Transformation", "Failed", message[:MAX_MESSAGE])

    @property
    def needs_record(self) -> bool:
        """Whether it looks into events."""
        return self.passes is not None or self.transformer is not None


class Routing(Struct, frozen=True):
    """The pipelines of a source: the one that stores its events, if any, and those that see its people."""

    storing: Route | None = None
    seeing: tuple[Route, ...] = ()
    needs_record: bool = False
    """Whether one of them looks into events."""
    stored: tuple[Step, ...] = ()
    """What is remembered of an event that was stored, if it is, and is about nobody who is seen."""
    seen: tuple[Step, ...] = ()
    """What is remembered of an event that everything let through."""
    pipelines: tuple[int, ...] = ()
    """Those that see people."""


class Routes:
    """The routings of all sources, as the catalog has them. What was made ready is kept until it changes."""

    def __init__(self, catalog: Catalog, functions: Runner) -> None:
        self._catalog = catalog
        self._functions = functions
        self._routings: dict[tuple[int, int], Routing] = {}
        self._routes: dict[int, tuple[Definition, Route | None]] = {}

    def refresh(self) -> None:
        """Look at the catalog anew: at the beginning of a batch, whose events then all go the same way."""
        self._routings.clear()

    def of(self, workspace: int, connection_id: int) -> Routing:
        """The routing of a source; an empty one when it is gone."""
        source = workspace, connection_id
        routing = self._routings.get(source)
        if routing is None:
            routing = self._routings[source] = self._routing(*source)
        return routing

    def _routing(self, workspace: int, connection_id: int) -> Routing:
        connection = self._catalog.connection(workspace, connection_id)
        if connection is None:
            return Routing()
        enabled = [pipeline for pipeline in connection.pipelines if pipeline.enabled]
        storing = self._ready(pipeline for pipeline in enabled if pipeline.target == "Event")
        seeing = self._ready(pipeline for pipeline in enabled if pipeline.target == "User")
        # A source has at most one Event pipeline, and an event is stored once.
        needs_record = any(route.needs_record for route in (*storing[:1], *seeing))
        stored = tuple(route.passed for route in storing[:1])
        seen = (*stored, *(route.passed for route in seeing))
        pipelines = tuple(route.pipeline for route in seeing)
        return Routing(storing[0] if storing else None, seeing, needs_record, stored, seen, pipelines)

    def _ready(self, pipelines: Iterable[Pipeline]) -> tuple[Route, ...]:
        return tuple(route for pipeline in pipelines if (route := self._route(pipeline)) is not None)

    def _route(self, pipeline: Pipeline) -> Route | None:
        """The pipeline, made ready; None for one that cannot be, which may not stop all the others.

        What is stored was checked when it was given; only rules that have changed since can refuse it.
        """
        known = self._routes.get(pipeline.id)
        if known is None or known[0] != pipeline.definition:
            try:
                route = self._made(pipeline)
            except HeadwaterError as error:
                _log.error("a pipeline cannot run", pipeline=pipeline.id, reason=error.message)
                route = None
            known = self._routes[pipeline.id] = (pipeline.definition, route)
        return known[1]

    def _made(self, pipeline: Pipeline) -> Route:
        filter_ = None if pipeline.definition.filter is None else parse_json(pipeline.definition.filter)
        passes = None
        if filter_ is not None:
            passes = compile_filter(check_filter(filter_, EVENT_SCHEMA, role="Source", target=pipeline.target))
        return Route(
            pipeline=pipeline.id,
            connection=pipeline.connection,
            passes=passes,
            transformer=transformer_of(pipeline, self._functions),
            passed=Step(pipeline.id, pipeline.connection, "Finalize", "Passed"),
            filtered=Step(pipeline.id, pipeline.connection, "Filter", "Filtered"),
        )
