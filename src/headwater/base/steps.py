"""The steps that a record goes through, and how a step and an event can end.

Traces, lanes, runs, metrics and the API use these words. They are stored and shown as these texts.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

ProcessingStep = Literal["Receive", "InputValidation", "Filter", "Transformation", "OutputValidation", "Finalize"]
"""The steps of a pipeline, in their order. "Finalize" is the last: storing an event, updating an identity or sending to
a destination."""

StepOutcome = Literal["Passed", "Filtered", "Failed", "Pending"]
"""The outcome of the last step of a record. Pending: the record waits in the lane of its pipeline, or in the queue of
its destination."""

StepCounts: TypeAlias = Mapping[tuple[ProcessingStep, StepOutcome], int]
"""Number of records by last step and its outcome."""

EventOutcome = Literal["Pending", "Processed", "NoPipeline", "Duplicate", "Rejected"]
"""The outcome of an event. Pending: it is durable and not yet processed. Processed: at least one pipeline accepted it.
NoPipeline: no enabled pipeline of its source accepted it, so it is not stored. Duplicate: it repeats a message."""
